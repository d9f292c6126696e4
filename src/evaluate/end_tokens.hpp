// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace caravan::evaluate {

/// The tokens that end an answer: the one that answers were trained to end with (-1: none), and eos_token_id of the
/// folder's config.json and generation_config.json, each an id or a list, as far as the files are there and say one.
std::vector<std::int32_t> end_tokens(const std::filesystem::path& model_folder, std::int32_t trained);

}  // namespace caravan::evaluate
