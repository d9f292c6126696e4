// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace caravan::convert {

/// Writes what stands beside the weights in a model's folder: config.json with this text, and copies of the tokenizer's
/// files and of generation_config.json, as far as `from` has them. Throws as io::write_file_atomically() does.
void write_companions(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& config);

}  // namespace caravan::convert
