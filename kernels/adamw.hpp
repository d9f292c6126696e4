// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// Settings of one AdamW update (Loshchilov and Hutter, 2019).
struct AdamW {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  std::int64_t step = 1;  // of this update, from 1 (exit 70 below)
};

/// One update as torch.optim.AdamW does it, with g = gradient_scale * gradient:
///   weight *= 1 - lr * weight_decay;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
///   weight -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
/// weight, exp_avg (m), exp_avg_sq (v), gradient: [count], fp32.
void adamw(Execution execution, float* weight, float* exp_avg, float* exp_avg_sq, const float* gradient,
           double gradient_scale, AdamW settings, std::int64_t count);

/// fp64 numbers that sum_of_squares(count) needs as scratch.
std::int64_t sum_of_squares_scratch(std::int64_t count);

/// *sum = sum of values^2 in fp64, in an order that depends on count alone. values: [count];
/// scratch: [sum_of_squares_scratch(count)].
void sum_of_squares(Execution execution, const float* values, std::int64_t count, double* scratch, double* sum);

}  // namespace caravan::kernels
