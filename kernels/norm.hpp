// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// RMSNorm (Zhang and Sennrich, 2019, as in Llama): y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps).
/// x, y: [rows, columns] (x == y is allowed); weight: [columns]; rstd: [rows], kept for the backward pass.
/// Statistics are fp32, summed in a fixed order; the result is rounded to T once. T is float or Bf16.
template <typename T>
void rms_norm(Execution execution, const T* x, const float* weight, T* y, float* rstd, std::int64_t rows,
              std::int64_t columns, double eps);

/// dx = rstd * weight * dy - x * rstd^3 * mean(weight * dy * x), from the forward pass's x and rstd. The weight is
/// frozen: it gets no gradient. dx == dy is allowed.
template <typename T>
void rms_norm_backward(Execution execution, const T* dy, const T* x, const float* weight, const float* rstd, T* dx,
                       std::int64_t rows, std::int64_t columns);

}  // namespace caravan::kernels
