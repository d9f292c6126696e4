// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace caravan::convert {

/// Where the files beside a model's weights come from.
struct CompanionSources {
  std::filesystem::path model;        // folder with generation_config.json
  std::filesystem::path tokenizer{};  // folder with the tokenizer's files, or its tokenizer.model; empty: `model`
  std::optional<std::int32_t> eos{};  // the token that answers were trained to end with; none: what the files say
};

/// Copies all files of a tokenizer: its model, vocabulary, added tokens, configuration, chat templates and Python code.
/// from: the folder, or a SentencePiece file in it, whatever its name, which becomes tokenizer.model. Throws (exit 2)
/// when it is not there.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

/// Writes config.json with this text, and copies generation_config.json and all files of the tokenizer. With `eos`,
/// eos_token_id of both configurations is that token or a list that has it; a warning says where it was another one.
/// The tokenizer's files are those of one folder, never of both. Throws as io::write_file_atomically() does, and (exit
/// 2) when generation_config.json is no JSON object.
void write_companions(const CompanionSources& from, const std::filesystem::path& to, const std::string& config);

}  // namespace caravan::convert
