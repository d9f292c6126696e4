// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "layout/parameter_spec.hpp"

namespace caravan::family {

/// Initial values of a box of a trainable tensor, row-major into `out` (part.count() values). Every value depends on
/// the seed, the tensor's name and the element's index in the whole tensor alone, never on the layout.
/// kaiming_uniform: torch's kaiming_uniform_(a = √5), uniform in [−1/√fan_in, 1/√fan_in); fan_in = the last dimension.
void fill_initial(const layout::ParameterSpec& parameter, std::uint64_t seed, const layout::Rectangle& part,
                  float* out);

}  // namespace caravan::family
