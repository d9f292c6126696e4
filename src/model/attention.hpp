// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "family/model_spec.hpp"
#include "model/attention_core.hpp"
#include "model/pass.hpp"
#include "model/rotary.hpp"
#include "parallel/sharded_linear.hpp"

namespace caravan::model {

/// Self-attention of a Llama layer: q, k, v linears (column parallel), rotary positions, causal attention within
/// documents, output linear (row parallel).
class Attention {
 public:
  Attention(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
            parallel::Parameters& parameters);
  /// x: sequence shard [T/TP, H], after the norm → [T/TP, H].
  parallel::Activation forward(const parallel::Activation& x, const Pass& pass) const;

 private:
  std::int64_t layer_;
  AttentionShape shape_;
  parallel::ColumnLinears qkv_;
  parallel::RowLinear output_;
  Rotary rotary_;
};

}  // namespace caravan::model
