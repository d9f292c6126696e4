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

template <typename T>
CARAVAN_FUNCTION float weight_sum(const T* g, const T* a, int size) {
  return detail::fixed_order_sum<float>(size, [g, a](int c) {
    const float x = to_float(a[c]);
    return to_float(g[c]) * (x * detail::normal(x).below);
  });
}

template <typename T>
CARAVAN_FUNCTION void backward_span(const T* g, const T* a, T* da, T* z, int size, float factor) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) {
    const float x = to_float(a[c]);
    const float slope = to_float(g[c]);
    const detail::Normal n = detail::normal(x);
    da[c] = from_float<T>(factor * slope * (n.below + x * n.density));
    z[c] = from_float<T>(factor * (x * n.below));
  }
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
        const T* slope = g + row * columns;
        const T* in = a + row * columns;
        // First the sum: the second loop may overwrite g and a.
        const float sum = detail::sum_columns(
            team, columns, [&](std::int64_t begin, int size) { return weight_sum(slope + begin, in + begin, size); });
        const float factor = scaling * w[row];
        detail::for_columns(team, columns, [&](std::int64_t begin, int size) {
          const std::int64_t at = row * columns + begin;
          backward_span(g + at, a + at, da + at, z + at, size, factor);
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
