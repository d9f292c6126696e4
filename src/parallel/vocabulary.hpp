// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "parallel/parameters.hpp"
#include "parallel/token_axis.hpp"

// Embedding and head, both frozen and cut by vocabulary over TP: of P = V/TP, rounded up, rank t holds tokens
// [t·P, (t+1)·P). Beyond V a part has rows of zeros, which stand for no token: they are in no maximum, sum or gradient.
namespace caravan::parallel {

/// Embeddings of the axis' ids, as the sequence shard [T/TP, H]; pads get zeros.
at::Tensor embed(const Context& context, const FrozenWeight& table, const TokenAxis& axis);

/// Cross-entropy of the next token.
struct TokenLoss {
  at::Tensor loss;  // fp32 scalar: Σ over this DP rank's targets · scale, the root of the graph
  at::Tensor sum;   // fp64 scalar: the same, unscaled; equal on all ranks of a TP group
};

/// vocabulary: V. x: the sequence shard [T/TP, H] after the last norm. `scale` is 1/N with N the targets of the global
/// batch: the gradient leaves the head already divided. Computed in chunks of tokens that have a target, so [T, V]
/// logits never exist; with gradients on, dX is made in the same pass.
TokenLoss token_loss(const Context& context, const FrozenWeight& head, std::int64_t vocabulary, const at::Tensor& x,
                     const TokenTargets& targets, double scale);

/// Logits of chosen rows of the token axis, fp32 [rows.size, V], on every rank of the TP group. Without gradient.
at::Tensor logits(const Context& context, const FrozenWeight& head, std::int64_t vocabulary, const at::Tensor& x,
                  const at::Tensor& rows);

}  // namespace caravan::parallel
