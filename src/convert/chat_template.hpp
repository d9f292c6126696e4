// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace caravan::convert {

/// The chat template of a folder, as transformers looks for it: chat_template.jinja, else the field of
/// tokenizer_config.json (a list of named templates as JSON). None: it has none. Throws (exit 2) with the file when
/// tokenizer_config.json is no JSON object.
std::optional<std::string> chat_template_in(const std::filesystem::path& folder);

/// Where an exported folder keeps the base's chat template, when the model was trained with another one.
inline constexpr const char* base_chat_template_file = "base_chat_template.jinja";

/// What to say of the chat template of an export, for the log and the card. chat_template: the one that the data had,
/// empty where there was no training, or where the checkpoint does not say; base: the base's; trained: whether there
/// was training.
/// tekken: the base's files that find_tekken() names.
std::string chat_template_report(const std::string& chat_template, const std::optional<std::string>& base, bool trained,
                                 const std::vector<std::string>& tekken = {});

/// The names of a folder's files for Mistral's own tokenizer program (tekken.json, tokenizer.model.v3), in order. vLLM
/// and transformers 5 turn to that program where they find one, and to the prompts that are built into it.
std::vector<std::string> find_tekken(const std::filesystem::path& folder);

/// Whether a folder has the files of a tokenizer.
bool has_tokenizer(const std::filesystem::path& folder);

/// Makes the tokenizer's files in an exported folder complete: tokenizer_config.json gets the trained chat template
/// (empty: the base's stays), which the files that find_tekken() names would hide, and which is why they go; and it
/// names the class, which transformers cannot find from model_type. qwen2: of the model's family. Does nothing where
/// the folder has no tokenizer.
void complete_tokenizer(const std::filesystem::path& folder, const std::string& trained, bool qwen2);

}  // namespace caravan::convert
