// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.hpp"

#include <cmath>

#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

template <typename T>
CARAVAN_FUNCTION float square_sum(const T* x, int size) {
  return detail::fixed_order_sum<float>(size, [x](int c) {
    const float value = to_float(x[c]);
    return value * value;
  });
}

template <typename T>
CARAVAN_FUNCTION void scale_span(const T* x, const float* weight, T* y, int size, float rstd) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) y[c] = from_float<T>((to_float(x[c]) * rstd) * weight[c]);
}

template <typename T>
CARAVAN_FUNCTION float gradient_sum(const T* dy, const T* x, const float* weight, int size) {
  return detail::fixed_order_sum<float>(
      size, [dy, x, weight](int c) { return (to_float(dy[c]) * weight[c]) * to_float(x[c]); });
}

template <typename T>
CARAVAN_FUNCTION void gradient_span(const T* dy, const T* x, const float* weight, T* dx, int size, float rstd,
                                    float shrink) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) {
    dx[c] = from_float<T>((to_float(dy[c]) * weight[c]) * rstd - to_float(x[c]) * shrink);
  }
}

}  // namespace

template <typename T>
void rms_norm(Execution execution, const T* x, const float* weight, T* y, float* rstd, std::int64_t rows,
              std::int64_t columns, double eps) {
  const auto small = static_cast<float>(eps);
  detail::for_rows(
      execution, "rms_norm", rows, columns, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const T* in = x + row * columns;
        T* out = y + row * columns;
        const float squares = detail::sum_columns(
            team, columns, [&](std::int64_t begin, int size) { return square_sum(in + begin, size); });
        const float scale = 1.0F / std::sqrt(squares / static_cast<float>(columns) + small);
        detail::for_columns(team, columns, [&](std::int64_t begin, int size) {
          scale_span(in + begin, weight + begin, out + begin, size, scale);
        });
        Kokkos::single(Kokkos::PerTeam(team), [&] { rstd[row] = scale; });
      });
}

template <typename T>
void rms_norm_backward(Execution execution, const T* dy, const T* x, const float* weight, const float* rstd, T* dx,
                       std::int64_t rows, std::int64_t columns) {
  detail::for_rows(
      execution, "rms_norm_backward", rows, columns, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const T* g = dy + row * columns;
        const T* in = x + row * columns;
        T* out = dx + row * columns;
        const float sum = detail::sum_columns(team, columns, [&](std::int64_t begin, int size) {
          return gradient_sum(g + begin, in + begin, weight + begin, size);
        });
        const float scale = rstd[row];
        const float shrink = sum / static_cast<float>(columns) * scale * scale * scale;
        detail::for_columns(team, columns, [&](std::int64_t begin, int size) {
          gradient_span(g + begin, in + begin, weight + begin, out + begin, size, scale, shrink);
        });
      });
}

template void rms_norm(Execution, const float*, const float*, float*, float*, std::int64_t, std::int64_t, double);
template void rms_norm(Execution, const Bf16*, const float*, Bf16*, float*, std::int64_t, std::int64_t, double);
template void rms_norm_backward(Execution, const float*, const float*, const float*, const float*, float*, std::int64_t,
                                std::int64_t);
template void rms_norm_backward(Execution, const Bf16*, const Bf16*, const float*, const float*, Bf16*, std::int64_t,
                                std::int64_t);

}  // namespace caravan::kernels
