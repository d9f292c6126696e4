// SPDX-License-Identifier: Apache-2.0
#include "data/fast_vocabulary.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.hpp"
#include "core/json.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// model.vocab of a tokenizer.json: {"<unk>": 0, …}, or the pieces of a Unigram model in the order of their ids. Null
/// where it has none.
json read_vocabulary(const fs::path& file) {
  const auto only_vocabulary = [](int depth, json::parse_event_t event, json& parsed) {
    if (event != json::parse_event_t::key) return true;
    return depth == 1 ? parsed == "model" : depth != 2 || parsed == "vocab";
  };
  json whole;
  try {
    whole = json::parse(io::read_file(file), only_vocabulary);
  } catch (const json::exception& error) {
    core::bad_input(file.string(), ": is not JSON: ", error.what());
  }
  json model = whole.value("model", json());
  return model.is_object() ? model.value("vocab", json()) : json();
}

std::unordered_map<std::string, std::int64_t> ids_of(const json& vocabulary, const std::string& where) {
  std::unordered_map<std::string, std::int64_t> ids;
  if (vocabulary.is_object()) {
    for (const auto& [text, id] : vocabulary.items()) {
      if (!id.is_number_integer())
        core::bad_input(where, ": \"", text, "\" must have a token id, not ", core::json_text(id));
      ids[text] = id.get<std::int64_t>();
    }
    return ids;
  }
  if (!vocabulary.is_array()) core::bad_input(where, " must be an object or an array");
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const json& piece = vocabulary[id];
    if (!piece.is_array() || piece.empty() || !piece[0].is_string()) {
      core::bad_input(where, " must hold pairs of text and score, not ", core::json_text(piece));
    }
    ids[piece[0].get<std::string>()] = static_cast<std::int64_t>(id);
  }
  return ids;
}

}  // namespace

void require_same_vocabulary(const std::string& folder, const Vocabulary& vocabulary, const SpecialTokens& special,
                             const std::string& model_file) {
  const fs::path file = fs::path(folder) / "tokenizer.json";
  if (!fs::is_regular_file(file)) return;
  const json found = read_vocabulary(file);
  if (found.is_null()) return;
  const std::string where = file.string() + ": model.vocab";
  const std::string advice =
      "; fast tokenizers would give texts other ids: take both files from the same model, or remove tokenizer.json";
  const auto ids = ids_of(found, where);
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.in_use(id)) continue;
    const std::string text = vocabulary.text(id);
    const auto there = ids.find(text);
    if (there != ids.end() && there->second == id) continue;
    const std::string is = there == ids.end() ? "does not have \"" + text + "\""
                                              : core::concat("has \"", text, "\" with the id ", there->second);
    core::bad_input(where, " ", is, ", but in ", model_file, " it is ", id, advice);
  }
  for (const auto& [text, id] : ids) {
    const auto is_it = [&, &text = text, &id = id](const AddedToken& token) {
      return token.content == text && token.id == id;
    };
    if (id < vocabulary.size() || std::any_of(special.added.begin(), special.added.end(), is_it)) continue;
    core::bad_input(where, " has \"", text, "\" with the id ", id, ", but ", model_file, " has only ",
                    vocabulary.size(), " pieces, and no added token is called so", advice);
  }
}

}  // namespace caravan::data
