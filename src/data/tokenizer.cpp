// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <nlohmann/json.hpp>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"

namespace caravan::data {
namespace {

using nlohmann::ordered_json;

ordered_json identity_of(const SpecialTokens::Named& token) {
  if (token.id < 0) return nullptr;
  return {{"content", token.text}, {"id", token.id}};
}

std::string checksum_of(const std::vector<AddedToken>& tokens) {
  std::string all;
  for (const AddedToken& token : tokens) {
    all += core::concat(token.id, " ", token.content.size(), " ", token.content, " ", token.special, token.named,
                        token.strip_left, token.strip_right, token.single_word, "\n");
  }
  return core::checksum(all.data(), all.size());
}

std::string describe(const ordered_json& token) {
  if (!token.is_object()) return token.is_null() ? "none" : core::json_text(token);
  return core::concat(core::json_text(token.value("content", ordered_json())), " (id ", token.value("id", -1), ")");
}

}  // namespace

Tokenizer::Tokenizer(std::string kind, std::string path, SpecialTokens facts, std::string vocabulary_checksum,
                     std::string file_checksum)
    : kind_(std::move(kind)),
      path_(std::move(path)),
      facts_(std::move(facts)),
      vocabulary_checksum_(std::move(vocabulary_checksum)),
      file_checksum_(std::move(file_checksum)) {
  const std::string text = core::json_text(identity());
  fingerprint_ = core::checksum(text.data(), text.size());
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if ((options.bos && bos_id() < 0) || (options.eos && eos_id() < 0)) {
    core::bad_input(path_, ": the tokenizer has no token for the ", options.bos && bos_id() < 0 ? "start" : "end",
                    " of a text");
  }
  std::vector<std::int32_t> ids;
  if (options.bos) ids.push_back(bos_id());
  if (!text.empty()) {
    const std::vector<std::int32_t> of_text = encode_text(text, options.specials, options.start);
    ids.insert(ids.end(), of_text.begin(), of_text.end());
  }
  if (options.eos) ids.push_back(eos_id());
  return ids;
}

void Tokenizer::log_warnings() const {
  for (const std::string& warning : facts_.warnings) core::log_warning(warning);
}

ordered_json Tokenizer::identity() const {
  return {{"kind", kind_},
          {"bos_token", identity_of(facts_.bos)},
          {"eos_token", identity_of(facts_.eos)},
          {"unk_token", identity_of(facts_.unk)},
          {"pad_token", identity_of(facts_.pad)},
          {"add_bos_token", facts_.add_bos},
          {"add_eos_token", facts_.add_eos},
          {"add_prefix_space", facts_.add_prefix_space},
          {"legacy", facts_.legacy},
          {"split_special_tokens", facts_.split_special},
          {"added_tokens", checksum_of(facts_.added)},
          {"vocabulary", vocabulary_checksum_}};
}

std::vector<std::string> describe_differences(const ordered_json& is, const ordered_json& was) {
  std::vector<std::string> differences;
  if (!was.is_object() || was.empty()) return differences;
  for (const auto& [key, value] : is.items()) {
    const ordered_json before = was.value(key, ordered_json());
    if (before == value) continue;
    if (key == "added_tokens") {
      if (!differences.empty()) continue;  // a named token is one of them
      differences.emplace_back("the added tokens or their flags are others");
    } else if (key == "vocabulary") {
      differences.emplace_back("the vocabulary is another one");
    } else {
      differences.push_back(core::concat(key, " is ", describe(value), ", but it was ", describe(before)));
    }
  }
  return differences;
}

}  // namespace caravan::data
