// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "parallel/parameters.hpp"

namespace caravan::model {

/// RMSNorm with a frozen weight: x [rows, H] → [rows, H] (Zhang and Sennrich 2019), statistics in fp32.
at::Tensor rms_norm(const at::Tensor& x, const parallel::FrozenWeight& weight, double eps);

}  // namespace caravan::model
