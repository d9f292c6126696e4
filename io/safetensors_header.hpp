// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "io/safetensors.hpp"

namespace caravan::io {

struct SafetensorsHeader {
  std::map<std::string, SafetensorsFile::Entry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Parses and checks the header against the file's size; see SafetensorsFile for what is refused.
SafetensorsHeader parse_safetensors_header(const MappedFile& file);

/// "F32" → f32; nothing for types that core does not know.
std::optional<core::DType> dtype_from_safetensors(std::string_view name);
/// f32 → "F32".
std::string_view safetensors_name_of(core::DType dtype);

}  // namespace caravan::io
