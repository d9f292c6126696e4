// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::family {

/// Section [model].
struct ModelOptions {
  std::string base;
  std::string adapter;
  std::string store;
  double rope_theta = 0;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("base", base, core::path(),
          "Hugging Face folder of the base, dense or with adapters: config.json, *.safetensors");
    visit("adapter", adapter, core::path(),
          "PEFT LoRA folder to begin from: adapter_config.json, adapter_model.safetensors, and pesc/ where caravan "
          "export wrote it; empty: [lora] and [upcycle] say what begins");
    visit("store", store, core::path(),
          "checkpoint of step 0, which upcycle writes and which holds the frozen tensors; empty: the run's own");
    visit("rope_theta", rope_theta, core::real(0, 1e12), "base of the rotary embedding; 0: config.json's rope_theta");
  }
};

/// Section [lora]: low-rank updates of the linears (Hu et al., "LoRA", ICLR 2022).
struct LoraOptions {
  std::int64_t rank = 64;
  double alpha = 16;
  double dropout = 0.1;
  bool rslora = false;
  std::vector<std::string> targets{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("rank", rank, core::whole(0, 65536), "inner dimension of the low-rank updates; 0: none");
    visit("alpha", alpha, core::above(0, 1e6), "the update is scaled by alpha / rank");
    visit("rslora", rslora, core::flag(), "scale by alpha / sqrt(rank) instead (rank-stabilised LoRA)");
    visit("dropout", dropout, core::real(0, 0.999), "probability that an input of the update is zeroed in training");
    visit("targets", targets,
          core::one_of({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
          "linears that get an update");
  }
};

}  // namespace caravan::family
