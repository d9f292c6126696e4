// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "family/model_spec.hpp"
#include "model/pass.hpp"
#include "parallel/activation.hpp"
#include "parallel/expert_exchange.hpp"
#include "parallel/parameters.hpp"

namespace caravan::model {

/// PESC's mixture of adapters behind a feed-forward block (Wu et al. 2024, section 3):
///   out = y + s · Σ_{e in top-k} w_e · Up_e(gelu(Down_e(dropout(y)))),  w = softmax of the k largest router logits of
///   x.
/// The sum form keeps the router's gradient exactly zero while Up is zero. Tokens are routed on the rank that holds
/// them and their rows travel to the experts' ranks (EP); every rank takes part, also with no token. Where a rank would
/// receive more than Context::exchange_bytes of rows, they travel in rounds (parallel::plan_exchange): each round's
/// inputs and outputs are gone before the next one's, and backward has the inputs sent again. With a capacity, choices
/// that their expert does not take (within_capacity) add nothing; the weights of a token's others stay what they are.
class ExpertMixture {
 public:
  ExpertMixture(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                parallel::Parameters& parameters);

  /// x: the feed-forward block's input, y: its output, both [T/TP, H] → [T/TP, H].
  parallel::Activation forward(const parallel::Activation& x, const parallel::Activation& y, const Pass& pass) const;

  /// Router logits of x, fp32 [T/TP, E].
  at::Tensor logits(const at::Tensor& x) const;
  /// The experts that the logits choose; pads choose none.
  parallel::Routing choose(const at::Tensor& logits, const Pass& pass) const;

 private:
  struct Travel;
  struct Round;
  struct Saved;
  Travel travel_of(const parallel::Routing& routing, const at::Tensor& y, const Pass& pass) const;
  parallel::Permutation permutation_of(const parallel::Routing& routing, const Pass& pass) const;
  /// dropout(y) of the tokens of this rank's experts, [received, H].
  at::Tensor inputs(const Travel& travel, const Round& round, const at::Tensor& y) const;
  /// Down_e of them, [received, D], before the activation.
  at::Tensor inner(const Round& round, const at::Tensor& inputs) const;
  /// y + s · Σ w_e · Up_e(gelu(inner)); inner: of every round.
  at::Tensor mixed(const Travel& travel, const at::Tensor& y, const std::vector<at::Tensor>& inner) const;
  std::vector<at::Tensor> backward(Saved& saved, const at::Tensor& gradient) const;
  /// Adds a round's part to the experts' weight gradients and returns the gradients of its inputs and weights.
  std::pair<at::Tensor, at::Tensor> experts_backward(const Round& round, const at::Tensor& doutputs,
                                                     const at::Tensor& inputs, const at::Tensor& inner) const;
  /// work(local expert, first row, rows) for every expert of this rank that has rows.
  template <typename Work>
  static void for_each_expert(const Round& round, const Work& work);

  const parallel::Context& context_;
  family::Pesc pesc_;
  std::int64_t layer_;
  parallel::Trainable& router_;  // [E, H]
  parallel::Trainable& down_;    // [E/EP, D, H]
  parallel::Trainable& up_;      // [E/EP, H, D]
};

}  // namespace caravan::model
