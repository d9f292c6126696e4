// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "layout/parameter_spec.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::convert {

/// Reads rows of a frozen tensor in its storage type (f32, bf16, f16). Throws (exit 2) with source, tensor and position
/// when a value is NaN or infinite, in the files or after conversion.
void read_finite(const layout::TensorSource& source, const layout::ParameterSpec& parameter,
                 const layout::Rectangle& rows, void* out);

/// Tells two bases apart without reading them whole: a hash of the name, shape, element type and first and last row (at
/// most 64 values of each) of every parameter that the base has.
std::uint64_t base_fingerprint(const layout::TensorSource& source,
                               const std::vector<layout::ParameterSpec>& parameters);

}  // namespace caravan::convert
