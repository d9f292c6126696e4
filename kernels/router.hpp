// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// Extents of a routing: T tokens, E experts, k experts per token. 1 <= k <= E (exit 70 where it does not hold).
struct RouterShape {
  std::int64_t tokens = 0;
  std::int64_t experts = 0;
  std::int64_t topk = 0;
};

/// Chooses each token's experts. logits: [T, E]; sequence: [T], the row of the token in the statistics, -1 for a pad
/// row; indices: [T, k], the largest logit first, ties to the lower expert, -1 on pads; weights: [T, k], the softmax
/// over the chosen logits, 0 on pads. A NaN logit counts as larger than any number if its sign is plus, else as
/// smaller: k different experts are chosen whatever the logits are.
void route(Execution execution, const float* logits, const std::int32_t* sequence, RouterShape shape,
           std::int32_t* indices, float* weights);

/// What the balance loss needs, summed in the order of the tokens; both results are overwritten.
/// counts: [S, E], assignments of tokens (pads excluded) to the expert; probabilities: [S, E], sums of the tokens' full
/// softmax. sequence: [T] with values in [-1, sequences).
void routing_statistics(Execution execution, const float* logits, const std::int32_t* indices,
                        const std::int32_t* sequence, RouterShape shape, std::int64_t sequences, double* counts,
                        double* probabilities);

/// Gradient of the balance loss alpha * E * sum_e f_e p_e at a token's logits: scale * p o (f - f.p).
struct BalanceGradient {
  const double* share = nullptr;  // [S, E] f: assignments of the expert / all assignments of the row; null: no loss
  double scale = 0;               // alpha * E / (layers * tokens that are not pads)
};

/// dlogits: [T, E], overwritten. Task part, for the chosen j: w_j (dw_j - sum_i w_i dw_i), 0 elsewhere; the balance
/// part is added, with p the token's full softmax; pads get 0. dweights: [T, k].
void route_backward(Execution execution, const float* logits, const std::int32_t* indices, const float* weights,
                    const float* dweights, const std::int32_t* sequence, RouterShape shape, BalanceGradient balance,
                    float* dlogits);

}  // namespace caravan::kernels
