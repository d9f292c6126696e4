// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// z = s * w * gelu(a), gelu(a) = a * (1 + erf(a / sqrt 2)) / 2, the exact form. With the routing weight folded in
/// before the up projection, the combine is a plain sum. a, z: [rows, columns] (a == z is allowed); w: [rows], the
/// routing weight; s: the model's moe_scaling. T is float or Bf16.
template <typename T>
void weighted_gelu(Execution execution, const T* a, const float* w, double s, T* z, std::int64_t rows,
                   std::int64_t columns);

/// g: [rows, columns], the gradient of z (dout * Up). da = s * w * g * gelu'(a); z is recomputed for the gradient of
/// Up; dw: [rows] = s * sum over columns of g * gelu(a), fp32 in a fixed order. da may be g, z may be a.
template <typename T>
void weighted_gelu_backward(Execution execution, const T* g, const T* a, const float* w, double s, T* da, T* z,
                            float* dw, std::int64_t rows, std::int64_t columns);

}  // namespace caravan::kernels
