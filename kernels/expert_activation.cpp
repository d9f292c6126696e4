// SPDX-License-Identifier: Apache-2.0
#include "kernels/expert_activation.hpp"

#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

template <typename T>
CARAVAN_FUNCTION void forward_span(const T* a, T* z, int size, float factor) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) {
    const float x = to_float(a[c]);
    z[c] = from_float<T>(factor * (x * detail::normal(x).below));
  }
}

// Columns whose products wait for their sum: a loop that both stores and sums in a fixed order does not vectorise.
constexpr int piece = detail::on_host ? 256 : 1;

/// Returns the sum of g * gelu(a).
template <typename T>
CARAVAN_FUNCTION float backward_span(const T* g, const T* a, T* da, T* z, int size, float factor) {
  float products[piece];
  float sum = 0;
  for (int begin = 0; begin < size; begin += piece) {
    const int n = size - begin < piece ? size - begin : piece;
    const T* slopes = g + begin;
    const T* in = a + begin;
    T* da_out = da + begin;
    T* z_out = z + begin;
    CARAVAN_IVDEP
    for (int c = 0; c < n; ++c) {
      const float x = to_float(in[c]);
      const float slope = to_float(slopes[c]);
      const detail::Normal normal = detail::normal(x);
      const float gelu = x * normal.below;
      products[c] = slope * gelu;
      da_out[c] = from_float<T>(factor * slope * (normal.below + x * normal.density));
      z_out[c] = from_float<T>(factor * gelu);
    }
    const float* values = products;
    sum += detail::fixed_order_sum<float>(n, [values](int c) { return values[c]; });
  }
  return sum;
}

}  // namespace

template <typename T>
void weighted_gelu(Execution execution, const T* a, const float* w, double s, T* z, std::int64_t rows,
                   std::int64_t columns) {
  const auto scaling = static_cast<float>(s);
  detail::for_rows(
      execution, "weighted_gelu", rows, columns, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const float factor = scaling * w[row];
        detail::for_columns(team, columns, [&](std::int64_t begin, int size) {
          const std::int64_t at = row * columns + begin;
          forward_span(a + at, z + at, size, factor);
        });
      });
}

template <typename T>
void weighted_gelu_backward(Execution execution, const T* g, const T* a, const float* w, double s, T* da, T* z,
                            float* dw, std::int64_t rows, std::int64_t columns) {
  const auto scaling = static_cast<float>(s);
  detail::for_rows(
      execution, "weighted_gelu_backward", rows, columns, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const float factor = scaling * w[row];
        const float sum = detail::sum_columns(team, columns, [&](std::int64_t begin, int size) {
          const std::int64_t at = row * columns + begin;
          return backward_span(g + at, a + at, da + at, z + at, size, factor);
        });
        Kokkos::single(Kokkos::PerTeam(team), [&] { dw[row] = scaling * sum; });
      });
}

template void weighted_gelu(Execution, const float*, const float*, double, float*, std::int64_t, std::int64_t);
template void weighted_gelu(Execution, const Bf16*, const float*, double, Bf16*, std::int64_t, std::int64_t);
template void weighted_gelu_backward(Execution, const float*, const float*, const float*, double, float*, float*,
                                     float*, std::int64_t, std::int64_t);
template void weighted_gelu_backward(Execution, const Bf16*, const Bf16*, const float*, double, Bf16*, Bf16*, float*,
                                     std::int64_t, std::int64_t);

}  // namespace caravan::kernels
