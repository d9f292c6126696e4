// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "parallel/activation.hpp"

namespace caravan::model {

/// Causal softmax attention within documents, with grouped key and value heads.
struct AttentionShape {
  std::int64_t heads = 0;     // query heads on this rank
  std::int64_t kv_heads = 0;  // key and value heads on this rank; divides heads
  std::int64_t head_dim = 0;
  std::int64_t window = 0;  // keys that a query sees, its own among them (sliding window); 0: all before it
};

/// q [T, heads · d], k and v [T, kv_heads · d] → [T, heads · d]. document_starts: D + 1 offsets; a token sees the
/// tokens of its own document up to itself, or the last `window` of them. Rows past the last document (pads) get zeros.
/// Scores are softmaxed in fp32. Differentiable in q, k and v; probabilities are made again in backward, in blocks of
/// query rows.
parallel::Activation attend(const parallel::Activation& q, const parallel::Activation& k, const parallel::Activation& v,
                            const AttentionShape& shape, const std::vector<std::int64_t>& document_starts,
                            parallel::Recall recall = parallel::Recall::kept);

}  // namespace caravan::model
