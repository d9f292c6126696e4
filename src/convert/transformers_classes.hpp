// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <string_view>

namespace caravan::convert {

/// A Python file that exported folders carry, so that transformers, PEFT and vLLM load them.
struct ClassFile {
  std::string_view name;  // "modeling_pesc.py"
  std::string_view text;
};

/// The files of src/convert/transformers, as they were when the program was built.
const std::array<ClassFile, 2>& transformers_classes();

/// Writes them into a folder. Throws as io::write_file_atomically() does.
void write_transformers_classes(const std::filesystem::path& folder);

}  // namespace caravan::convert
