// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_files.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.hpp"
#include "core/json.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<const char*, 7> roles{"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};

/// One of the files; null when it is not there. A key that stands twice is refused: readers take one or the other.
/// The field `skipped` is left out: the vocabulary of a tokenizer.json is large.
json read_object(const fs::path& path, const std::string& skipped = "") {
  if (!fs::is_regular_file(path)) return {};
  // Of the objects that are open, by their depth: the parser tells no end of one that is left out.
  std::vector<std::set<std::string>> keys;
  bool skipping = false;
  const auto look = [&](int depth, json::parse_event_t event, json& parsed) {
    const auto level = static_cast<std::size_t>(depth);
    if (event == json::parse_event_t::object_start) {
      keys.resize(level);
      keys.emplace_back();
    } else if (event == json::parse_event_t::key) {
      keys.resize(level);
      const auto key = parsed.get<std::string>();
      if (level == 1) skipping = !skipped.empty() && key == skipped;
      if (skipping && level > 1) return true;
      if (!keys.back().insert(key).second) core::bad_input(path.string(), ": has \"", key, "\" twice in one object");
      return !skipping;
    }
    return true;
  };
  json object;
  try {
    object = json::parse(io::read_file(path), look);
  } catch (const json::exception& error) {
    core::bad_input(path.string(), ": is not JSON: ", error.what());
  }
  if (!object.is_object()) core::bad_input(path.string(), ": must hold one JSON object");
  return object;
}

void read_flag(const json& object, const char* name, bool& value, const std::string& where) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return;  // null is how the class's default is written
  if (!found->is_boolean()) core::bad_input(where, ": ", name, " must be true or false, not ", core::json_text(*found));
  value = found->get<bool>();
}

void read_flags(const json& object, AddedToken& token, const std::string& where) {
  read_flag(object, "special", token.special, where);
  read_flag(object, "lstrip", token.strip_left, where);
  read_flag(object, "rstrip", token.strip_right, where);
  read_flag(object, "single_word", token.single_word, where);
}

/// A token is its text, or an object with the text in `content`.
NamedToken read_named(const char* role, const json& value, const std::string& where) {
  NamedToken named;
  named.role = role;
  named.token.special = true;
  named.token.has_flags = value.is_object();
  named.token.origin = where;
  if (value.is_string()) {
    named.token.content = value.get<std::string>();
  } else if (value.is_object() && value.contains("content") && value.at("content").is_string()) {
    named.token.content = value.at("content").get<std::string>();
    read_flags(value, named.token, where);
    named.token.special = true;
  } else {
    core::bad_input(where, " must be a text, null or an object with content, not ", core::json_text(value));
  }
  return named;
}

/// Collects added tokens, from the file that counts least on.
class AddedTokens {
 public:
  void add(AddedToken token) {
    if (token.content.empty()) core::bad_input(token.origin, " has a token without content");
    const auto [by_text, fresh] = ids_.emplace(token.content, token.id);
    if (by_text->second != token.id) {
      refuse(token, core::concat("has the id ", token.id), core::concat("it is ", by_text->second),
             tokens_.at(by_text->second));
    }
    if (const auto found = tokens_.find(token.id); fresh && found != tokens_.end()) {
      refuse(token, core::concat("has the id ", token.id), core::concat("that is \"", found->second.content, "\""),
             found->second);
    }
    tokens_[token.id] = std::move(token);
  }

  bool empty() const { return tokens_.empty(); }
  const std::map<std::int32_t, AddedToken>& tokens() const { return tokens_; }
  std::vector<AddedToken> all() const {
    std::vector<AddedToken> all;
    for (const auto& [id, token] : tokens_) all.push_back(token);
    return all;
  }

 private:
  [[noreturn]] static void refuse(const AddedToken& token, const std::string& is, const std::string& but,
                                  const AddedToken& other) {
    const bool same = token.origin == other.origin;
    core::bad_input(token.origin, ": \"", token.content, "\" ", is, ", but ", same ? "there" : other.origin + " says",
                    same ? " " : " that ", but, "; a token has one id, and an id one token: correct the file");
  }

  std::map<std::int32_t, AddedToken> tokens_;
  std::map<std::string, std::int32_t> ids_;
};

std::int32_t checked_id(std::int64_t id, const std::string& text, const std::string& where) {
  if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) core::bad_input(where, ": ", text, " is no token id");
  return static_cast<std::int32_t>(id);
}

/// added_tokens_decoder of tokenizer_config.json: {"384": {"content": …, flags}}.
void read_decoder(const json& decoder, const std::string& where, AddedTokens& added) {
  if (!decoder.is_object()) core::bad_input(where, " must be an object");
  for (const auto& [key, entry] : decoder.items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) id = -1;
    AddedToken token;
    token.id = checked_id(id, "the key \"" + key + "\"", where);
    token.origin = where;
    if (!entry.is_object() || !entry.contains("content") || !entry.at("content").is_string()) {
      core::bad_input(where, ": \"", key, "\" has no content; it must be an object with the token's text in content");
    }
    token.content = entry.at("content").get<std::string>();
    read_flags(entry, token, where + "[\"" + key + "\"]");
    added.add(std::move(token));
  }
}

/// added_tokens.json: {"<|im_end|>": 384}. `specials`: the texts that other files name.
void read_encoder(const json& encoder, const std::string& where, const std::set<std::string>& specials,
                  AddedTokens& added) {
  for (const auto& [content, id] : encoder.items()) {
    if (!id.is_number_integer())
      core::bad_input(where, ": \"", content, "\" must have a token id, not ", core::json_text(id));
    AddedToken token;
    token.content = content;
    token.id = checked_id(id.get<std::int64_t>(), core::json_text(id), where);
    token.special = specials.contains(content);
    token.has_flags = false;
    token.origin = where;
    added.add(std::move(token));
  }
}

/// added_tokens of tokenizer.json: [{"id": 384, "content": …, flags}].
void read_list(const json& list, const std::string& where, AddedTokens& added) {
  if (!list.is_array()) core::bad_input(where, " must be an array");
  for (const json& entry : list) {
    if (!entry.is_object() || !entry.contains("id") || !entry.at("id").is_number_integer() ||
        !entry.contains("content") || !entry.at("content").is_string()) {
      core::bad_input(where, " must hold objects with id and content, not ", core::json_text(entry));
    }
    AddedToken token;
    token.content = entry.at("content").get<std::string>();
    token.id = checked_id(entry.at("id").get<std::int64_t>(), core::json_text(entry.at("id")), where);
    token.origin = where;
    read_flags(entry, token, where);
    added.add(std::move(token));
  }
}

/// Reads the files one after the other.
class Reader {
 public:
  explicit Reader(const fs::path& folder)
      : folder_(folder),
        config_(read_object(folder / "tokenizer_config.json")),
        map_(read_object(folder / "special_tokens_map.json")),
        encoder_(read_object(folder / "added_tokens.json")),
        fast_(read_object(folder / "tokenizer.json", "model")) {
    const json* decoder = find(config_, "added_tokens_decoder");
    decoder_counts_ = decoder && !decoder->is_null();
    if (const json* list = find(fast_, "added_tokens")) list_ = *list;
  }

  TokenizerFiles read() {
    if (config_.is_object()) {
      const std::string where = path_of("tokenizer_config.json");
      read_flag(config_, "add_bos_token", files_.add_bos_token, where);
      read_flag(config_, "add_eos_token", files_.add_eos_token, where);
      read_flag(config_, "add_prefix_space", files_.add_prefix_space, where);
      read_flag(config_, "legacy", files_.legacy, where);
      read_flag(config_, "split_special_tokens", files_.split_special_tokens, where);
      refuse_model_settings(where);
      check_class(where);
    }
    for (const char* role : roles) read_role(role);
    read_additional();
    read_added();
    return std::move(files_);
  }

 private:
  std::string path_of(const char* name) const { return (folder_ / name).string(); }
  std::string field(const char* name, const char* key) const { return path_of(name) + ": " + key; }

  static const json* find(const json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
  }

  /// Settings of the SentencePiece library that would change ids, and that nobody sets here.
  void refuse_model_settings(const std::string& where) const {
    const json* settings = find(config_, "sp_model_kwargs");
    if (!settings || settings->is_null()) return;
    for (const char* name : {"enable_sampling", "add_bos", "add_eos", "reverse"}) {
      bool set = false;
      read_flag(*settings, name, set, where + ": sp_model_kwargs");
      if (set) core::bad_input(where, ": sp_model_kwargs: ", name, " = true is not supported; set it to false");
    }
  }

  /// Other classes may read the same tokenizer.model differently: XLM-R's shifts all ids by one.
  void check_class(const std::string& where) {
    const json* name = find(config_, "tokenizer_class");
    if (!name || name->is_null()) return;
    constexpr std::array classes{"LlamaTokenizer",         "LlamaTokenizerFast",      "CodeLlamaTokenizer",
                                 "CodeLlamaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"};
    if (std::find(classes.begin(), classes.end(), *name) != classes.end()) return;
    const std::string is = core::concat(where, ": tokenizer_class is ", core::json_text(*name));
    if (find(config_, "auto_map")) {  // the model brings the code of the class
      files_.warnings.push_back(is + "; this program gives texts the ids of LlamaTokenizer, which may be others");
      return;
    }
    core::bad_input(is,
                    ", which may give texts other ids than LlamaTokenizer, the only one that is supported; if its "
                    "ids are the same, write \"LlamaTokenizer\" there");
  }

  void read_role(const char* role) {
    const json* in_config = find(config_, role);
    const json* in_map = find(map_, role);
    std::optional<NamedToken> of_config, of_map;
    if (in_config && !in_config->is_null())
      of_config = read_named(role, *in_config, field("tokenizer_config.json", role));
    if (in_map && !in_map->is_null()) of_map = read_named(role, *in_map, field("special_tokens_map.json", role));
    std::optional<NamedToken> named;
    if (in_map && !decoder_counts_) {
      named = of_map;
      if (in_config) warn_of_other(of_map, of_config, "special_tokens_map.json", "tokenizer_config.json", role);
    } else if (in_config) {
      named = of_config;
      if (in_map) warn_of_other(of_config, of_map, "tokenizer_config.json", "special_tokens_map.json", role);
    } else {
      named = default_of(role);
      if (in_map) warn_of_other(named, of_map, "tokenizer_config.json", "special_tokens_map.json", role);
    }
    if (!named) return;
    if (named->token.content.empty()) {
      // "" as a padding token is how some write that there is none.
      if (role == roles[0] || role == roles[1] || role == roles[2]) {
        core::bad_input(named->token.origin, " is empty; name a token, or write null if there is none");
      }
      return;
    }
    files_.named.push_back(std::move(*named));
  }

  std::optional<NamedToken> default_of(const char* role) const {
    const char* content = role == roles[0] ? "<s>" : role == roles[1] ? "</s>" : role == roles[2] ? "<unk>" : nullptr;
    if (!content) return std::nullopt;
    return read_named(role, content, field("tokenizer_config.json", role) + " (where no file names one)");
  }

  void warn_of_other(const std::optional<NamedToken>& taken, const std::optional<NamedToken>& other, const char* from,
                     const char* not_from, const char* role) {
    const auto text = [](const std::optional<NamedToken>& named) {
      return named ? "\"" + named->token.content + "\"" : std::string("none");
    };
    if (text(taken) == text(other)) return;
    files_.warnings.push_back(core::concat(path_of(not_from), ": ", role, " is ", text(other), ", but ", from, " has ",
                                           text(taken), ", which counts, as in transformers; make them the same"));
  }

  void read_additional() {
    constexpr const char* key = "additional_special_tokens";
    std::set<std::string> seen;
    const auto take = [&](const json& object, const char* name) {
      const json* list = find(object, key);
      if (!list || list->is_null()) return;
      if (!list->is_array()) core::bad_input(field(name, key), " must be an array");
      for (const json& entry : *list) {
        if (entry.is_null()) core::bad_input(field(name, key), " must hold texts or objects with content, not null");
        NamedToken named = read_named(key, entry, field(name, key));
        if (named.token.content.empty() || !seen.insert(named.token.content).second) continue;
        files_.named.push_back(std::move(named));
      }
    };
    take(config_, "tokenizer_config.json");
    if (!decoder_counts_) take(map_, "special_tokens_map.json");
  }

  void read_added() {
    AddedTokens added;
    if (decoder_counts_) {
      read_decoder(config_.at("added_tokens_decoder"), field("tokenizer_config.json", "added_tokens_decoder"), added);
      warn_of_ignored_encoder(added);
      // The slow tokenizer takes the one, the fast one the other: they must agree.
      AddedTokens both = added;
      if (!list_.is_null()) read_list(list_, field("tokenizer.json", "added_tokens"), both);
    } else {
      std::set<std::string> specials;
      for (const NamedToken& named : files_.named) specials.insert(named.token.content);
      if (encoder_.is_object()) read_encoder(encoder_, path_of("added_tokens.json"), specials, added);
      if (encoder_.is_object()) warn_of_confused_role();
      if (!list_.is_null()) read_list(list_, field("tokenizer.json", "added_tokens"), added);
    }
    files_.added = added.all();
  }

  /// transformers 4.44 keeps the tokens of added_tokens.json under the name that it read last, which is the last of
  /// additional_special_tokens: a role of that name gets the last token of the file instead, unless tokenizer.json has
  /// it.
  void warn_of_confused_role() {
    const json* list = find(map_, "additional_special_tokens");
    if (!list || !list->is_array() || list->empty() || encoder_.empty()) return;
    const std::string last = read_named("", list->back(), "").token.content;
    const auto repaired = [&](const json& entry) {
      return entry.is_object() && entry.value("content", json()) == last;
    };
    if (list_.is_array() && std::any_of(list_.begin(), list_.end(), repaired)) return;
    for (const NamedToken& named : files_.named) {
      if (named.token.content != last || named.role == "additional_special_tokens") continue;
      files_.warnings.push_back(
          core::concat(named.token.origin, ": transformers may take the last token of added_tokens.json for \"", last,
                       "\", since that is also the last of additional_special_tokens; this program "
                       "does not. For transformers, give the tokens in added_tokens_decoder instead"));
      return;
    }
  }

  void warn_of_ignored_encoder(const AddedTokens& added) {
    if (!encoder_.is_object()) return;
    AddedTokens ignored;
    read_encoder(encoder_, path_of("added_tokens.json"), {}, ignored);
    for (const auto& [id, token] : ignored.tokens()) {
      const auto found = added.tokens().find(id);
      if (found != added.tokens().end() && found->second.content == token.content) continue;
      files_.warnings.push_back(core::concat(token.origin, ": \"", token.content, "\" has the id ", id,
                                             ", which added_tokens_decoder in tokenizer_config.json does not say; "
                                             "added_tokens_decoder counts, as in transformers"));
      return;
    }
  }

  fs::path folder_;
  json config_, map_, encoder_, fast_, list_;
  bool decoder_counts_ = false;
  TokenizerFiles files_;
};

}  // namespace

TokenizerFiles read_tokenizer_files(const std::string& folder) { return Reader(folder).read(); }

}  // namespace caravan::data
