// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "parallel/activation.hpp"

namespace caravan::model {

/// RMSNorm with a frozen weight [H] in the compute type: x [rows, H] → [rows, H] (Zhang and Sennrich 2019), statistics
/// in fp32.
parallel::Activation rms_norm(const parallel::Activation& x, const at::Tensor& weight, double eps,
                              parallel::Recall recall);

}  // namespace caravan::model
