// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "parallel/activation.hpp"
#include "parallel/parameters.hpp"

namespace caravan::model {

/// RMSNorm with a frozen weight: x [rows, H] → [rows, H] (Zhang and Sennrich 2019), statistics in fp32.
parallel::Activation rms_norm(const parallel::Activation& x, const parallel::FrozenWeight& weight, double eps,
                              parallel::Recall recall);

}  // namespace caravan::model
