// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "data/tokenizer_config.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;
using sentencepiece::SentencePieceProcessor;
using Ids = std::vector<std::int32_t>;

constexpr std::string_view word_start = "\xE2\x96\x81";  // U+2581

std::string find_model(const std::string& path) {
  if (!fs::is_directory(path)) {
    if (!fs::is_regular_file(path)) core::bad_input(path, ": no such tokenizer.model or folder; set data.tokenizer");
    return path;
  }
  const auto model = fs::path(path) / "tokenizer.model";
  if (fs::is_regular_file(model)) return model.string();
  if (fs::is_regular_file(fs::path(path) / "tokenizer.json")) {
    core::bad_input(path, ": has only tokenizer.json; a SentencePiece tokenizer.model is needed, set data.tokenizer");
  }
  core::bad_input(path, ": holds no tokenizer.model; set data.tokenizer");
}

void load(SentencePieceProcessor& processor, const std::string& bytes, const std::string& path) {
  const auto status = processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) core::bad_input(path, ": is not a SentencePiece model: ", status.ToString());
}

std::size_t code_point_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

struct Tokenizer::Model {
  struct Special {
    AddedToken token;
    std::int32_t id = -1;
    bool matched_by_model = false;  // a user-defined piece: SentencePiece itself turns its text into this id
  };

  std::string path, fingerprint;
  TokenizerConfig config;
  SentencePieceProcessor as_is;     // loaded for legacy tokenizers only
  SentencePieceProcessor unmarked;  // the same model, without a word-start mark before the first word
  std::string bos_text, eos_text;
  std::int32_t bos = -1, eos = -1, unk = -1, pad = -1;
  std::vector<Special> specials;  // longest text first
  std::map<std::int32_t, std::size_t> special_of_id;
  std::array<bool, 256> begins_special{};  // by first byte
  std::size_t unk_text_length = 0;
  std::int64_t vocabulary = 0;

  explicit Model(const std::string& where) : path(find_model(where)) {
    const std::string bytes = io::read_file(path);
    fingerprint = core::checksum(bytes.data(), bytes.size());
    const auto config_path = fs::path(path).parent_path() / "tokenizer_config.json";
    if (fs::is_regular_file(config_path)) config = read_tokenizer_config(config_path.string());
    if (config.legacy) load(as_is, bytes, path);
    // Protocol buffers merge a repeated sub-message: ModelProto.normalizer_spec (3) { add_dummy_prefix (3) = false }.
    load(unmarked, bytes + std::string("\x1A\x02\x18\x00", 4), path);
    vocabulary = unmarked.GetPieceSize();

    for (const auto& token : config.added) add_special(token, *token.id);
    bos = named(config.bos, unmarked.bos_id());
    eos = named(config.eos, unmarked.eos_id());
    unk = named(config.unk, unmarked.unk_id());
    pad = named(config.pad, unmarked.pad_id());
    bos_text = text_of(bos);
    eos_text = text_of(eos);
    std::sort(specials.begin(), specials.end(),
              [](const Special& a, const Special& b) { return a.token.content.size() > b.token.content.size(); });
    for (std::size_t i = 0; i < specials.size(); ++i) {
      special_of_id[specials[i].id] = i;
      begins_special[static_cast<unsigned char>(specials[i].token.content.front())] = true;
    }
    unk_text_length = encode_unmarked(text_of(unk)).size();
  }

  void add_special(const AddedToken& token, std::int32_t id) {
    const auto same = [&](const Special& other) { return other.id == id || other.token.content == token.content; };
    if (std::any_of(specials.begin(), specials.end(), same)) return;
    const bool in_model = id < unmarked.GetPieceSize();
    specials.push_back({token, id, in_model && !unmarked.IsControl(id) && !unmarked.IsUnknown(id)});
    vocabulary = std::max<std::int64_t>(vocabulary, std::int64_t{id} + 1);
  }

  /// The id of a named token, which becomes special. A name that the model does not know falls back to the model's own.
  std::int32_t named(const std::optional<std::string>& name, int own) {
    if (!name) return -1;
    std::int32_t id = own;
    const auto known = [&](const Special& other) { return other.token.content == *name; };
    if (const auto found = std::find_if(specials.begin(), specials.end(), known); found != specials.end()) {
      found->token.special = true;
      return found->id;
    }
    if (const int piece = unmarked.PieceToId(*name); unmarked.IdToPiece(piece) == *name) id = piece;
    if (id >= 0) add_special({unmarked.IdToPiece(id), id, true, false, false}, id);
    return id;
  }

  std::string text_of(std::int32_t id) const {
    if (id < 0) return "";
    for (const auto& special : specials) {
      if (special.id == id) return special.token.content;
    }
    return unmarked.IdToPiece(id);
  }

  const Special* special_at(std::string_view text) const {
    if (!begins_special[static_cast<unsigned char>(text.front())]) return nullptr;
    for (const auto& special : specials) {
      if (text.starts_with(special.token.content)) return &special;
    }
    return nullptr;
  }

  Ids encode_unmarked(const std::string& text) const {
    Ids ids;
    const auto status = unmarked.Encode(text, &ids);
    CARAVAN_CHECK(status.ok(), status.ToString());
    return ids;
  }

  /// Text without special tokens, appended. With a mark it begins as SentencePiece's own first word does.
  void append_plain(std::string_view text, bool mark, Ids& ids) const {
    if (text.empty()) return;
    Ids piece;
    if (mark) {
      const auto status = as_is.Encode(text, &piece);
      CARAVAN_CHECK(status.ok(), status.ToString());
    } else if (text.front() == ' ' || text.starts_with(word_start)) {
      // SentencePiece may drop white space at the start; something before it, which is then cut off, keeps it.
      piece = encode_unmarked(text_of(unk) + std::string(text));
      if (piece.size() >= unk_text_length)
        piece.erase(piece.begin(), piece.begin() + static_cast<long>(unk_text_length));
    } else {
      piece = encode_unmarked(std::string(text));
    }
    ids.insert(ids.end(), piece.begin(), piece.end());
  }

  /// Special tokens' texts become the tokens. `mark_first` and `mark_others`: whether the first piece of plain text and
  /// those after special tokens get a mark from SentencePiece.
  void append_parsed(std::string_view text, bool mark_first, bool mark_others, Ids& ids) const {
    std::size_t begin = 0, at = 0;
    bool mark = mark_first;
    while (at < text.size()) {
      const Special* special = special_at(text.substr(at));
      if (!special) {
        ++at;
        continue;
      }
      std::string_view before = text.substr(begin, at - begin);
      while (special->token.strip_left && !before.empty() && is_space(before.back())) before.remove_suffix(1);
      append_plain(before, mark, ids);
      ids.push_back(special->id);
      mark = mark_others;
      at += special->token.content.size();
      while (special->token.strip_right && at < text.size() && is_space(text[at])) ++at;
      begin = at;
    }
    append_plain(text.substr(begin), mark, ids);
  }

  /// No text becomes a special token: the text of one that SentencePiece would match is cut after its first character.
  void append_literal(std::string_view text, bool mark_first, Ids& ids) const {
    std::size_t begin = 0;
    bool mark = mark_first;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const Special* special = special_at(text.substr(at));
      if (!special || !special->matched_by_model) continue;
      const std::size_t cut = at + std::min(code_point_bytes(text[at]), text.size() - at);
      append_plain(text.substr(begin, cut - begin), mark, ids);
      mark = false;
      begin = cut;
      at = cut - 1;
    }
    append_plain(text.substr(begin), mark, ids);
  }

  std::string join(const SentencePieceProcessor& processor, const std::vector<std::string>& pieces) const {
    std::string text;
    const auto status = processor.Decode(pieces, &text);
    CARAVAN_CHECK(status.ok(), status.ToString());
    return text;
  }
};

Tokenizer::Tokenizer(const std::string& path) : model_(std::make_unique<Model>(path)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const Model& model = *model_;
  if ((options.bos && model.bos < 0) || (options.eos && model.eos < 0)) {
    core::bad_input(model.path, ": the tokenizer has no token for the ", model.bos < 0 ? "start" : "end", " of a text");
  }
  Ids ids;
  if (options.bos) ids.push_back(model.bos);
  const std::size_t first = ids.size();
  const bool legacy = model.config.legacy;
  // Newer tokenizers write the mark of a text of their own into the text and never let SentencePiece add one.
  std::string marked;
  if (options.start == Start::text && !legacy && model.config.add_prefix_space && !text.empty()) {
    marked = std::string(word_start) + std::string(text);
    text = marked;
  }
  const bool mark = legacy && options.start != Start::continued;
  if (options.specials == Specials::literal) {
    model.append_literal(text, mark, ids);
  } else {
    model.append_parsed(text, mark, legacy, ids);
    const bool lone_mark = !marked.empty() && ids.size() > first + 1 &&
                           ids[first] == model.unmarked.PieceToId(word_start) &&
                           model.special_of_id.contains(ids[first + 1]);
    if (lone_mark) ids.erase(ids.begin() + static_cast<long>(first));
  }
  if (options.eos) ids.push_back(model.eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  const Model& model = *model_;
  const bool legacy = model.config.legacy;
  const SentencePieceProcessor& processor = legacy ? model.as_is : model.unmarked;
  std::string text;
  std::vector<std::string> pieces;  // plain ones since the last special token
  bool first = true, after_special = false;
  std::size_t at = 0;  // among the tokens that are not skipped
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= model.vocabulary) {
      core::bad_input("token id ", id, " is outside the vocabulary of ", model.vocabulary, " in ", model.path);
    }
    const auto found = model.special_of_id.find(id);
    if (found != model.special_of_id.end()) {
      const auto& token = model.specials[found->second].token;
      if (skip_special && token.special) continue;
      if (!after_special && !first && legacy) text += ' ';
      text += model.join(processor, pieces) + token.content;
      pieces.clear();
      after_special = true;
    } else {
      if (id >= model.unmarked.GetPieceSize()) core::bad_input("token id ", id, " has no text in ", model.path);
      std::string piece = model.unmarked.IdToPiece(id);
      const bool has_mark = piece.starts_with(word_start);
      // encode put a mark before the text; here it goes again. After a first special token it is shown instead.
      if (first && has_mark && model.config.add_prefix_space) piece.erase(0, word_start.size());
      if (after_special && at == 1 && !has_mark && model.config.add_prefix_space) text += ' ';
      pieces.push_back(std::move(piece));
      after_special = false;
    }
    first = false;
    ++at;
  }
  return text + model.join(processor, pieces);
}

std::int32_t Tokenizer::bos_id() const { return model_->bos; }
std::int32_t Tokenizer::eos_id() const { return model_->eos; }
std::int32_t Tokenizer::unk_id() const { return model_->unk; }
std::int32_t Tokenizer::pad_id() const { return model_->pad; }
const std::string& Tokenizer::bos_text() const { return model_->bos_text; }
const std::string& Tokenizer::eos_text() const { return model_->eos_text; }
bool Tokenizer::adds_bos() const { return model_->config.add_bos_token; }
bool Tokenizer::legacy() const { return model_->config.legacy; }
std::int64_t Tokenizer::vocabulary() const { return model_->vocabulary; }
const std::string& Tokenizer::fingerprint() const { return model_->fingerprint; }
const std::string& Tokenizer::path() const { return model_->path; }

}  // namespace caravan::data
