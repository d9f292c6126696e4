// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace caravan::core {

/// Where the first NaN or infinity of `count` values is; −1: there is none, as always among integers.
std::int64_t first_not_finite(const void* values, DType dtype, std::int64_t count);

}  // namespace caravan::core
