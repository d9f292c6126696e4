// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.hpp"

#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

template <typename T>
CARAVAN_FUNCTION void forward_span(const T* gate, const T* up, T* out, int size) {
  CARAVAN_IVDEP
  for (int i = 0; i < size; ++i) {
    const float g = to_float(gate[i]);
    out[i] = from_float<T>(g * detail::sigmoid(g) * to_float(up[i]));
  }
}

template <typename T>
CARAVAN_FUNCTION void backward_span(const T* dout, const T* gate, const T* up, T* dgate, T* dup, int size) {
  CARAVAN_IVDEP
  for (int i = 0; i < size; ++i) {
    const float d = to_float(dout[i]);
    const float g = to_float(gate[i]);
    const float u = to_float(up[i]);
    const float s = detail::sigmoid(g);
    dgate[i] = from_float<T>(d * u * s * (1.0F + g * (1.0F - s)));
    dup[i] = from_float<T>(d * (g * s));
  }
}

}  // namespace

template <typename T>
void swiglu(Execution execution, const T* gate, const T* up, T* out, std::int64_t count) {
  detail::for_blocks(
      execution, "swiglu", count,
      KOKKOS_LAMBDA(std::int64_t begin, int size) { forward_span(gate + begin, up + begin, out + begin, size); });
}

template <typename T>
void swiglu_backward(Execution execution, const T* dout, const T* gate, const T* up, T* dgate, T* dup,
                     std::int64_t count) {
  detail::for_blocks(
      execution, "swiglu_backward", count, KOKKOS_LAMBDA(std::int64_t begin, int size) {
        backward_span(dout + begin, gate + begin, up + begin, dgate + begin, dup + begin, size);
      });
}

template void swiglu(Execution, const float*, const float*, float*, std::int64_t);
template void swiglu(Execution, const Bf16*, const Bf16*, Bf16*, std::int64_t);
template void swiglu_backward(Execution, const float*, const float*, const float*, float*, float*, std::int64_t);
template void swiglu_backward(Execution, const Bf16*, const Bf16*, const Bf16*, Bf16*, Bf16*, std::int64_t);

}  // namespace caravan::kernels
