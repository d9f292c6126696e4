// SPDX-License-Identifier: Apache-2.0
#include "convert/companions.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// The files that transformers' tokenizers read and write, those of other readers, and older names.
constexpr std::array tokenizer_files{
    "tokenizer.model",    "tokenizer.json",     "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",  "chat_template.json", "chat_template.jinja",   "vocab.json",
    "vocab.txt",          "merges.txt",         "spiece.model",          "tekken.json",
    "tokenizer.model.v3", "tokenizer.model.v7"};

/// Further templates, which transformers keeps in a folder.
constexpr const char* template_folder = "additional_chat_templates";

void copy_if_there(const fs::path& from, const fs::path& to) {
  if (fs::is_regular_file(from)) io::write_file_atomically(to, io::read_file(from));
}

/// qwen.tiktoken, tokenization_internlm2.py.
bool is_of_a_tokenizer(const fs::path& file) {
  const std::string name = file.filename().string();
  return file.extension() == ".tiktoken" || (name.starts_with("tokenization") && file.extension() == ".py");
}

/// `text` with the eos_token_id that answers were trained to end with. `file` is named in warnings.
std::string with_eos(const std::string& text, std::int32_t eos, const fs::path& file) {
  ordered_json object;
  try {
    object = core::parse_ordered_json(text);
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(file.string(), ": is not JSON: ", error.what());
  }
  if (!object.is_object()) core::bad_input(file.string(), ": must hold one JSON object");
  const ordered_json before = object.value("eos_token_id", ordered_json());
  const bool there =
      before == eos || (before.is_array() && std::find(before.begin(), before.end(), eos) != before.end());
  if (there) return text;
  if (!before.is_null()) {
    core::log_warning(core::concat(file.string(), ": eos_token_id is ", core::json_text(before),
                                   ", but answers were trained to end with ", eos, "; the export says ", eos));
  }
  object["eos_token_id"] = eos;
  return core::json_text(object, 2) + "\n";
}

}  // namespace

void copy_tokenizer(const fs::path& from, const fs::path& to) {
  if (!fs::exists(from)) core::bad_input(from.string(), ": no such folder or tokenizer.model; set data.tokenizer");
  const bool folder = fs::is_directory(from);
  const fs::path source = folder ? from : from.parent_path();
  for (const char* name : tokenizer_files) copy_if_there(source / name, to / name);
  if (!folder) copy_if_there(from, to / "tokenizer.model");  // whatever its name is
  for (const auto& entry : fs::directory_iterator(source.empty() ? fs::path(".") : source)) {
    if (is_of_a_tokenizer(entry.path())) copy_if_there(entry.path(), to / entry.path().filename());
  }
  if (!fs::is_directory(source / template_folder)) return;
  fs::create_directories(to / template_folder);
  for (const auto& entry : fs::directory_iterator(source / template_folder)) {
    copy_if_there(entry.path(), to / template_folder / entry.path().filename());
  }
}

void write_companions(const CompanionSources& from, const fs::path& to, const std::string& config) {
  const auto checked = [&](const std::string& text, const char* name) {
    return from.eos ? with_eos(text, *from.eos, from.model / name) : text;
  };
  io::write_file_atomically(to / "config.json", checked(config, "config.json"));
  constexpr const char* generation = "generation_config.json";
  if (fs::is_regular_file(from.model / generation)) {
    io::write_file_atomically(to / generation, checked(io::read_file(from.model / generation), generation));
  }
  copy_tokenizer(from.tokenizer.empty() ? from.model : from.tokenizer, to);
}

}  // namespace caravan::convert
