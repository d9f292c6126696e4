// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "model/attention.hpp"
#include "model/expert_mixture.hpp"
#include "model/feed_forward.hpp"

namespace caravan::model {

/// A Llama layer, with PESC's mixture behind the feed-forward block where the model has one. Its parts depend on the
/// input and the pass alone.
class DecoderLayer {
 public:
  DecoderLayer(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
               parallel::Parameters& parameters);

  /// Residual stream in and out, sequence shard [T/TP, H].
  parallel::Activation forward(const parallel::Activation& hidden, const Pass& pass) const;

  /// hidden + attention(norm(hidden)).
  parallel::Activation attend(const parallel::Activation& hidden, const Pass& pass) const;
  /// Input of feed-forward block and router: the norm of what attend() returns.
  parallel::Activation feed_forward_input(const parallel::Activation& attended,
                                          parallel::Recall recall = parallel::Recall::kept) const;
  const FeedForward& feed_forward() const { return feed_forward_; }
  /// Null in a dense model.
  const ExpertMixture* mixture() const { return mixture_ ? &*mixture_ : nullptr; }

 private:
  double eps_;
  at::Tensor attention_norm_, feed_forward_norm_;  // [H]
  Attention attention_;
  FeedForward feed_forward_;
  std::optional<ExpertMixture> mixture_;
};

}  // namespace caravan::model
