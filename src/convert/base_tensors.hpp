// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "family/model_spec.hpp"
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

/// The same as 16 hexadecimal digits, as step 0 records it.
std::string base_fingerprint_text(const layout::TensorSource& source,
                                  const std::vector<layout::ParameterSpec>& parameters);

/// base_fingerprint_text of a Hugging Face folder, and a PEFT folder if `adapter` is not empty, for the model that they
/// are to become. Throws (exit 2) when one of them cannot be read or is not that model's.
std::string fingerprint_of_folders(const std::string& base, const std::string& adapter,
                                   const family::ModelSpec& crafted);

}  // namespace caravan::convert
