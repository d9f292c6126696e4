// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json.hpp"
#include "data/sentencepiece_tokenizer.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;

/// What a tokenizer.json holds, for the message that it cannot be read.
std::string describe_tokenizer_json(const fs::path& file) {
  const auto skip_lists = [](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event != nlohmann::json::parse_event_t::key || depth != 2) return true;
    return parsed != "vocab" && parsed != "merges";
  };
  const auto object = nlohmann::json::parse(io::read_file(file), skip_lists, false);
  const auto model = object.is_object() ? object.value("model", nlohmann::json()) : nlohmann::json();
  if (!model.is_object()) return "is no tokenizer.json of Hugging Face's tokenizers";
  if (model.value("byte_fallback", nlohmann::json()) == true) {
    return "is a Llama tokenizer saved as tokenizer.json alone, as transformers 5 does";
  }
  if (core::json_text(object).find("ByteLevel") != std::string::npos) {
    return "is a byte-level BPE tokenizer (of Qwen, Llama 3 and others), which is not supported yet";
  }
  return core::concat("is a ", core::json_text(model.value("type", nlohmann::json())),
                      " tokenizer, which is not supported");
}

std::string find_model(const std::string& path) {
  if (!fs::is_directory(path)) {
    if (!fs::is_regular_file(path)) core::bad_input(path, ": no such tokenizer.model or folder; set data.tokenizer");
    if (fs::path(path).filename() == "tokenizer.json") {
      core::bad_input(path, ": ", describe_tokenizer_json(path), "; set data.tokenizer to a tokenizer.model");
    }
    return path;
  }
  const auto model = fs::path(path) / "tokenizer.model";
  if (fs::is_regular_file(model)) return model.string();
  if (const auto fast = fs::path(path) / "tokenizer.json"; fs::is_regular_file(fast)) {
    core::bad_input(path, ": has only tokenizer.json, which ", describe_tokenizer_json(fast),
                    "; set data.tokenizer to a folder that has the tokenizer.model of the same model, and its other "
                    "tokenizer files");
  }
  if (fs::is_regular_file(fs::path(path) / "vocab.json")) {
    core::bad_input(path,
                    ": has vocab.json and no tokenizer.model: a byte-level BPE tokenizer (of Qwen and others), "
                    "which is not supported yet; choose a base with a tokenizer.model");
  }
  core::bad_input(path, ": holds no tokenizer.model; set data.tokenizer");
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  return open_sentencepiece_tokenizer(find_model(path));
}

}  // namespace caravan::data
