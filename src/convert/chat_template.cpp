// SPDX-License-Identifier: Apache-2.0
#include "convert/chat_template.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;  // the fields of tokenizer_config.json keep their order

constexpr const char* template_file = "chat_template.jinja";
constexpr const char* more_templates = "additional_chat_templates";
constexpr const char* template_field = "chat_template";

ordered_json read_config(const fs::path& folder) {
  const fs::path file = folder / "tokenizer_config.json";
  if (!fs::exists(file)) return ordered_json::object();
  ordered_json config;
  try {
    config = core::parse_ordered_json(io::read_file(file));
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(file.string(), ": is not JSON: ", error.what());
  }
  if (!config.is_object()) core::bad_input(file.string(), ": must hold one JSON object");
  return config;
}

std::string why_none(bool trained) {
  return trained ? "the checkpoint does not say which one the model was trained with"
                 : "the model was not trained with one";
}

}  // namespace

std::optional<std::string> chat_template_in(const fs::path& folder) {
  if (fs::exists(folder / template_file)) return io::read_file(folder / template_file);
  const ordered_json config = read_config(folder);
  const auto found = config.find(template_field);
  if (found == config.end() || found->is_null()) return std::nullopt;
  return found->is_string() ? found->get<std::string>() : core::json_text(*found, 1);
}

std::string chat_template_report(const std::string& chat_template, const std::optional<std::string>& base, bool trained,
                                 const std::vector<std::string>& tekken) {
  if (chat_template.empty()) {
    if (!base) return core::concat("There is no chat template: the base has none, and ", why_none(trained), ".");
    if (trained) return core::concat("The chat template is the base's, since ", why_none(trained), ".");
    return "The chat template is the base's. Caravan cannot render it, and has neither trained nor evaluated with it.";
  }
  std::string text = "The chat template gives the tokens that the model was trained with.";
  if (base && *base != chat_template) {
    text += core::concat(" The base's own, which Caravan cannot render, is kept as ", base_chat_template_file,
                         "; the model was not trained with it.");
  }
  if (!tekken.empty()) {
    text += core::concat(" Not exported: the base's ", core::join(tekken),
                         ", with which vLLM and transformers would take the prompts of Mistral's own program.");
  }
  return text;
}

std::vector<std::string> find_tekken(const fs::path& folder) {
  std::vector<std::string> names;
  if (!fs::is_directory(folder)) return names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "tekken.json" || name.starts_with("tokenizer.model.v")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool has_tokenizer(const fs::path& folder) {
  return fs::exists(folder / "tokenizer.model") || fs::exists(folder / "tokenizer.json") ||
         fs::exists(folder / "vocab.json");
}

void complete_tokenizer(const fs::path& folder, const std::string& trained, bool qwen2) {
  if (!has_tokenizer(folder)) return;
  const bool sentencepiece = fs::exists(folder / "tokenizer.model");
  ordered_json config = read_config(folder);
  const ordered_json before = config;
  if (!config.contains("tokenizer_class") || config["tokenizer_class"].is_null()) {
    config["tokenizer_class"] = sentencepiece ? "LlamaTokenizer" : qwen2 ? "Qwen2Tokenizer" : "PreTrainedTokenizerFast";
  }
  if (!trained.empty()) {
    const std::optional<std::string> base = chat_template_in(folder);
    if (base && *base != trained) io::write_file_atomically(folder / base_chat_template_file, *base);
    // transformers would take these before the field.
    fs::remove(folder / template_file);
    if (fs::exists(folder / more_templates)) fs::rename(folder / more_templates, folder / "base_chat_templates");
    for (const std::string& name : find_tekken(folder)) fs::remove(folder / name);
    config[template_field] = trained;
  }
  if (config != before) io::write_file_atomically(folder / "tokenizer_config.json", core::json_text(config, 2) + "\n");
}

}  // namespace caravan::convert
