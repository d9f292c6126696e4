// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw.hpp"

#include <cmath>

#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

// Of sum_of_squares: pieces of one size on every machine, added in their order.
constexpr std::int64_t squares_piece = 4096;

/// The update's factors, rounded to fp32 once; complements are formed in fp64 first (1 - 0.999F has 4 digits).
struct Factors {
  float gradient, decay, beta1, rest1, beta2, rest2, second, eps, rate;
};

Factors factors_of(const AdamW& settings, double gradient_scale) {
  CARAVAN_CHECK(settings.step >= 1, "adamw: step ", settings.step);
  const auto step = static_cast<double>(settings.step);
  const double correction1 = 1 - std::pow(settings.beta1, step);
  const double correction2 = 1 - std::pow(settings.beta2, step);
  const auto f = [](double value) { return static_cast<float>(value); };
  return {f(gradient_scale),           f(1 - settings.lr * settings.weight_decay),
          f(settings.beta1),           f(1 - settings.beta1),
          f(settings.beta2),           f(1 - settings.beta2),
          f(std::sqrt(correction2)),   f(settings.eps),
          f(settings.lr / correction1)};
}

CARAVAN_FUNCTION void update_span(float* weight, float* exp_avg, float* exp_avg_sq, const float* gradient, int size,
                                  Factors factors) {
  const float scale = factors.gradient;
  const float decay = factors.decay;
  const float beta1 = factors.beta1;
  const float rest1 = factors.rest1;
  const float beta2 = factors.beta2;
  const float rest2 = factors.rest2;
  const float second = factors.second;
  const float eps = factors.eps;
  const float rate = factors.rate;
  CARAVAN_IVDEP
  for (int i = 0; i < size; ++i) {
    const float g = gradient[i] * scale;
    const float m = beta1 * exp_avg[i] + rest1 * g;
    const float v = beta2 * exp_avg_sq[i] + rest2 * (g * g);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    weight[i] = weight[i] * decay - rate * (m / (std::sqrt(v) / second + eps));
  }
}

CARAVAN_FUNCTION double square_sum(const float* values, int size) {
  return detail::fixed_order_sum<double>(size, [values](int i) {
    const auto value = static_cast<double>(values[i]);
    return value * value;
  });
}

}  // namespace

void adamw(Execution execution, float* weight, float* exp_avg, float* exp_avg_sq, const float* gradient,
           double gradient_scale, AdamW settings, std::int64_t count) {
  const Factors factors = factors_of(settings, gradient_scale);
  detail::for_blocks(
      execution, "adamw", count, KOKKOS_LAMBDA(std::int64_t begin, int size) {
        update_span(weight + begin, exp_avg + begin, exp_avg_sq + begin, gradient + begin, size, factors);
      });
}

std::int64_t sum_of_squares_scratch(std::int64_t count) { return (count + squares_piece - 1) / squares_piece; }

void sum_of_squares(Execution execution, const float* values, std::int64_t count, double* scratch, double* sum) {
  const std::int64_t pieces = sum_of_squares_scratch(count);
  detail::for_each(
      execution, "squares_of_pieces", pieces, KOKKOS_LAMBDA(std::int64_t i) {
        const std::int64_t begin = i * squares_piece;
        scratch[i] =
            square_sum(values + begin, static_cast<int>(begin + squares_piece < count ? squares_piece : count - begin));
      });
  detail::for_each(
      execution, "sum_of_squares", 1, KOKKOS_LAMBDA(std::int64_t) {
        double all = 0;
        for (std::int64_t i = 0; i < pieces; ++i) all += scratch[i];
        *sum = all;
      });
}

}  // namespace caravan::kernels
