// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_config.hpp"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

namespace caravan::data {
namespace {

using nlohmann::json;

void read_flag(const json& object, const char* name, bool& value, const std::string& path) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return;  // null is how the class's default is written
  if (!found->is_boolean()) core::bad_input(path, ": ", name, " must be true or false, not ", found->dump());
  value = found->get<bool>();
}

/// A token is its text, or an object with the text in `content`; null means that there is none.
void read_token(const json& object, const char* name, std::optional<std::string>& value, const std::string& path) {
  const auto found = object.find(name);
  if (found == object.end()) return;
  if (found->is_null()) {
    value.reset();
  } else if (found->is_string()) {
    value = found->get<std::string>();
  } else if (found->is_object() && found->contains("content") && found->at("content").is_string()) {
    value = found->at("content").get<std::string>();
  } else {
    core::bad_input(path, ": ", name, " must be a text, null or an object with content, not ", found->dump());
  }
}

std::int32_t token_id(const std::string& key, const std::string& path) {
  std::size_t used = 0;
  long long id = -1;
  try {
    id = std::stoll(key, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != key.size() || id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
    core::bad_input(path, ": added_tokens_decoder has the key \"", key, "\", which is no token id");
  }
  return static_cast<std::int32_t>(id);
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) core::bad_input(path, ": cannot be opened");
  json object;
  try {
    object = json::parse(file);
  } catch (const json::exception& error) {
    core::bad_input(path, ": is not JSON: ", error.what());
  }
  if (!object.is_object()) core::bad_input(path, ": must hold one JSON object");

  TokenizerConfig config;
  read_flag(object, "add_bos_token", config.add_bos_token, path);
  read_flag(object, "add_prefix_space", config.add_prefix_space, path);
  read_flag(object, "legacy", config.legacy, path);
  read_token(object, "bos_token", config.bos, path);
  read_token(object, "eos_token", config.eos, path);
  read_token(object, "unk_token", config.unk, path);
  read_token(object, "pad_token", config.pad, path);
  if (const auto added = object.find("added_tokens_decoder"); added != object.end() && !added->is_null()) {
    if (!added->is_object()) core::bad_input(path, ": added_tokens_decoder must be an object");
    for (const auto& [key, entry] : added->items()) {
      if (!entry.is_object()) core::bad_input(path, ": added_tokens_decoder[", key, "] must be an object");
      std::optional<std::string> content;
      read_token(entry, "content", content, path);
      if (!content || content->empty()) core::bad_input(path, ": added_tokens_decoder[", key, "] has no content");
      AddedToken token{*content, token_id(key, path), false, false, false};
      read_flag(entry, "special", token.special, path);
      read_flag(entry, "lstrip", token.strip_left, path);
      read_flag(entry, "rstrip", token.strip_right, path);
      config.added.push_back(std::move(token));
    }
  }
  return config;
}

}  // namespace caravan::data
