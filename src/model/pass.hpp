// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/random.hpp"
#include "model/modes.hpp"
#include "model/routing_record.hpp"
#include "parallel/activation.hpp"
#include "parallel/tensor_kernels.hpp"
#include "parallel/token_axis.hpp"

namespace caravan::model {

/// What is dropped in training; all 0 in evaluation. Masks depend on the seed and the token, never on the layout.
struct DropoutRates {
  std::uint64_t seed = 0;
  double lora = 0;    // of LoRA's inputs
  double expert = 0;  // of the experts' inputs
};

/// One forward pass: its tokens, its randomness, and where routing is recorded (null: not wanted).
struct Pass {
  const parallel::TokenAxis& axis;
  DropoutRates dropout{};
  std::shared_ptr<RoutingRecord> routing{};
  Recompute recompute = Recompute::none;
  double capacity = 0;  // assignments of a sequence that an expert takes, in even shares, k · tokens / E; 0: all

  /// What costs little to make again: all but the following two.
  parallel::Recall cheap() const { return remade_if(recompute != Recompute::none); }
  /// Outputs of the wide linears, of the experts' first, and what is added from them.
  parallel::Recall costly() const { return remade_if(recompute == Recompute::full); }
  /// The output of a layer, when what it is added from is kept.
  parallel::Recall layer_output() const { return remade_if(recompute == Recompute::selective); }

  /// Mask of LoRA's input number `input` of a layer (0 attention, 1 its output, 2 feed-forward, 3 its output).
  parallel::DropoutMask lora_mask(std::int64_t layer, std::uint64_t input) const {
    return {core::random_key(dropout.seed, core::RandomUse::lora_dropout, static_cast<std::uint64_t>(layer), input),
            dropout.lora, 0};
  }

  static parallel::Recall remade_if(bool remade) { return remade ? parallel::Recall::remade : parallel::Recall::kept; }
};

}  // namespace caravan::model
