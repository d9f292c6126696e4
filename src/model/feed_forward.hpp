// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "family/model_spec.hpp"
#include "model/pass.hpp"
#include "parallel/sharded_linear.hpp"

namespace caravan::model {

/// The dense feed-forward block that all experts share: y = down(silu(gate(x)) ∘ up(x)).
class FeedForward {
 public:
  FeedForward(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
              parallel::Parameters& parameters);
  /// x: sequence shard [T/TP, H], after the norm → y [T/TP, H].
  parallel::Activation forward(const parallel::Activation& x, const Pass& pass) const;

 private:
  std::int64_t layer_;
  parallel::ColumnLinears gate_up_;
  parallel::RowLinear down_;
};

}  // namespace caravan::model
