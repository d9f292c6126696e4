// SPDX-License-Identifier: Apache-2.0
#include "kernels/router.hpp"

#include <bit>
#include <limits>

#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

void check(const RouterShape& shape) {
  CARAVAN_CHECK(shape.tokens >= 0 && shape.topk >= 1 && shape.topk <= shape.experts, "tokens ", shape.tokens,
                ", experts ", shape.experts, ", topk ", shape.topk);
}

/// An integer that orders (logit, expert) pairs: larger logit first, then lower index. No two experts share one, NaN
/// has its place and both zeros are one value.
CARAVAN_FUNCTION std::int64_t rank_of(float logit, int expert) {
  const auto bits = std::bit_cast<std::int32_t>(logit + 0.0F);
  const std::int32_t ordered = bits ^ ((bits >> 31) & 0x7fffffff);
  return static_cast<std::int64_t>(ordered) * 0x100000000LL + (0x7fffffff - expert);
}

CARAVAN_FUNCTION int expert_of(std::int64_t rank) { return 0x7fffffff - static_cast<int>(rank & 0x7fffffff); }

/// The largest rank below `limit`.
CARAVAN_FUNCTION std::int64_t next_rank(const float* logits, int experts, std::int64_t limit) {
  constexpr std::int64_t none = std::numeric_limits<std::int64_t>::min();
  std::int64_t best = none;
  for (int e = 0; e < experts; ++e) {
    const std::int64_t rank = rank_of(logits[e], e);
    const std::int64_t candidate = rank < limit ? rank : none;
    best = candidate > best ? candidate : best;
  }
  return best;
}

CARAVAN_FUNCTION void choose(const float* logits, int experts, int topk, std::int32_t* indices, float* weights) {
  std::int64_t rank = std::numeric_limits<std::int64_t>::max();
  float largest = 0;
  float sum = 0;
  for (int j = 0; j < topk; ++j) {
    rank = next_rank(logits, experts, rank);
    const int expert = expert_of(rank);
    if (j == 0) largest = logits[expert];
    indices[j] = expert;
    weights[j] = detail::exponential(logits[expert] - largest);
    sum += weights[j];
  }
  for (int j = 0; j < topk; ++j) weights[j] /= sum;
}

/// The full softmax of a token is exp(logit - largest) * inverse_sum; the largest logit is that of the first choice.
struct Softmax {
  float largest;
  float inverse_sum;
};

CARAVAN_FUNCTION Softmax softmax_of(const float* logits, int experts, int first_choice) {
  const float largest = logits[first_choice];
  const float sum = detail::fixed_order_sum<float>(
      experts, [logits, largest](int e) { return detail::exponential(logits[e] - largest); });
  return {largest, 1.0F / sum};
}

CARAVAN_FUNCTION float probability(const Softmax& softmax, float logit) {
  return detail::exponential(logit - softmax.largest) * softmax.inverse_sum;
}

CARAVAN_FUNCTION void add_probabilities(const float* logits, Softmax softmax, double* sums, int size) {
  CARAVAN_IVDEP
  for (int e = 0; e < size; ++e) sums[e] += static_cast<double>(probability(softmax, logits[e]));
}

CARAVAN_FUNCTION void balance_span(const float* logits, Softmax softmax, const double* share, double scale,
                                   float* dlogits, int experts) {
  const double mean = detail::fixed_order_sum<double>(experts, [logits, share, softmax](int e) {
    return share[e] * static_cast<double>(probability(softmax, logits[e]));
  });
  CARAVAN_IVDEP
  for (int e = 0; e < experts; ++e) {
    dlogits[e] = static_cast<float>(scale * static_cast<double>(probability(softmax, logits[e])) * (share[e] - mean));
  }
}

}  // namespace

void route(Execution execution, const float* logits, const std::int32_t* sequence, RouterShape shape,
           std::int32_t* indices, float* weights) {
  check(shape);
  const auto experts = static_cast<int>(shape.experts);
  const auto topk = static_cast<int>(shape.topk);
  detail::for_each(
      execution, "route", shape.tokens, KOKKOS_LAMBDA(std::int64_t t) {
        if (sequence[t] >= 0) {
          choose(logits + t * experts, experts, topk, indices + t * topk, weights + t * topk);
          return;
        }
        for (int j = 0; j < topk; ++j) {
          indices[t * topk + j] = -1;
          weights[t * topk + j] = 0;
        }
      });
}

void routing_statistics(Execution execution, const float* logits, const std::int32_t* indices,
                        const std::int32_t* sequence, RouterShape shape, std::int64_t sequences, double* counts,
                        double* probabilities) {
  check(shape);
  const std::int64_t tokens = shape.tokens;
  const auto experts = static_cast<int>(shape.experts);
  const auto topk = static_cast<int>(shape.topk);
  Kokkos::View<Softmax*, detail::Space> softmax(Kokkos::ViewAllocateWithoutInitializing("routing_statistics"),
                                                static_cast<std::size_t>(tokens));
  detail::for_each(
      execution, "token_softmax", tokens, KOKKOS_LAMBDA(std::int64_t t) {
        if (sequence[t] >= 0) softmax(t) = softmax_of(logits + t * experts, experts, indices[t * topk]);
      });
  // A gather: each (sequence, expert) walks over the tokens in order, so no layout of threads changes its sum.
  detail::for_rows(
      execution, "routing_statistics", sequences, experts, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        detail::for_columns(team, experts, [&](std::int64_t begin, int size) {
          double* count = counts + row * experts + begin;
          double* sum = probabilities + row * experts + begin;
          for (int e = 0; e < size; ++e) count[e] = sum[e] = 0;
          for (std::int64_t t = 0; t < tokens; ++t) {
            if (sequence[t] != row) continue;
            add_probabilities(logits + t * experts + begin, softmax(t), sum, size);
            for (int j = 0; j < topk; ++j) {
              const std::int64_t e = indices[t * topk + j] - begin;
              if (e >= 0 && e < size) count[e] += 1;
            }
          }
        });
      });
  detail::instance(execution).fence();  // the scratch above ends here
}

void route_backward(Execution execution, const float* logits, const std::int32_t* indices, const float* weights,
                    const float* dweights, const std::int32_t* sequence, RouterShape shape, BalanceGradient balance,
                    float* dlogits) {
  check(shape);
  const auto experts = static_cast<int>(shape.experts);
  const auto topk = static_cast<int>(shape.topk);
  const double* share = balance.share;
  const double scale = balance.scale;
  detail::for_each(
      execution, "route_backward", shape.tokens, KOKKOS_LAMBDA(std::int64_t t) {
        float* out = dlogits + t * experts;
        const std::int32_t* chosen = indices + t * topk;
        const float* w = weights + t * topk;
        const float* dw = dweights + t * topk;
        if (sequence[t] < 0 || share == nullptr) {
          for (int e = 0; e < experts; ++e) out[e] = 0;
        } else {
          const float* in = logits + t * experts;
          const std::int64_t row = sequence[t];
          balance_span(in, softmax_of(in, experts, chosen[0]), share + row * experts, scale, out, experts);
        }
        if (sequence[t] < 0) return;
        float mean = 0;
        for (int j = 0; j < topk; ++j) mean += w[j] * dw[j];
        for (int j = 0; j < topk; ++j) out[chosen[j]] += w[j] * (dw[j] - mean);
      });
}

}  // namespace caravan::kernels
