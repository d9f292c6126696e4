// SPDX-License-Identifier: Apache-2.0
#include "data/sentencepiece_tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "data/added_tokens.hpp"
#include "data/fast_vocabulary.hpp"
#include "data/sentencepiece_model.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;
using sentencepiece::SentencePieceProcessor;
using Ids = std::vector<std::int32_t>;
using Part = AddedTokenSplitter::Part;
using Type = SentencePieceModel::Type;

constexpr std::string_view word_start = "\xE2\x96\x81";  // U+2581

void load(SentencePieceProcessor& processor, const std::string& bytes, const std::string& path) {
  const auto status = processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) core::bad_input(path, ": is not a SentencePiece model: ", status.ToString());
}

std::size_t code_point_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Spaces for word-start marks, as transformers writes a text before it cuts it.
std::string without_marks(std::string_view text) {
  std::string spaced;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t mark = std::min(text.find(word_start, at), text.size());
    spaced.append(text.substr(at, mark - at));
    if (mark < text.size()) spaced += ' ';
    at = mark + (mark < text.size() ? word_start.size() : 0);
  }
  return spaced;
}

class Pieces : public Vocabulary {
 public:
  explicit Pieces(const SentencePieceModel& model) : pieces_(model.pieces) {
    for (std::size_t id = 0; id < pieces_.size(); ++id) ids_.emplace(pieces_[id].text, static_cast<std::int32_t>(id));
  }
  std::int32_t size() const override { return static_cast<std::int32_t>(pieces_.size()); }
  std::optional<std::int32_t> find(const std::string& text) const override {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string text(std::int32_t id) const override { return pieces_.at(static_cast<std::size_t>(id)).text; }
  bool in_use(std::int32_t id) const override {
    const Type type = pieces_.at(static_cast<std::size_t>(id)).type;
    return type == Type::normal || type == Type::byte || type == Type::unknown;
  }
  Type type(std::int32_t id) const { return pieces_.at(static_cast<std::size_t>(id)).type; }

 private:
  const std::vector<SentencePieceModel::Piece>& pieces_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

/// The texts that SentencePiece itself turns into special tokens: those of pieces of its own with such an id.
std::vector<AddedToken> matched_by_model(const SpecialTokens& facts, const Pieces& pieces) {
  std::vector<AddedToken> matched;
  for (const AddedToken& token : facts.added) {
    if (token.id >= pieces.size()) continue;
    const Type type = pieces.type(token.id);
    if (type == Type::control || type == Type::unknown || type == Type::unused) continue;
    matched.push_back(token);
    matched.back().content = pieces.text(token.id);
  }
  return matched;
}

/// What is read of a folder, before the tokenizer is made of it.
struct Parts {
  std::string path, bytes;
  SentencePieceModel model;
  SpecialTokens facts;
  std::vector<AddedToken> matched;
};

Parts read_parts(const std::string& path) {
  Parts parts{path, io::read_file(path), {}, {}, {}};
  SentencePieceProcessor whole;
  load(whole, parts.bytes, path);
  parts.model = read_sentencepiece_model(parts.bytes, path);
  const std::string folder = fs::path(path).parent_path().string();
  const TokenizerFiles files = read_tokenizer_files(folder);
  const Pieces pieces(parts.model);
  parts.facts = find_special_tokens(files, pieces, path);
  require_same_vocabulary(folder, pieces, parts.facts, path);
  parts.matched = matched_by_model(parts.facts, pieces);
  return parts;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const Parts& parts)
      : Tokenizer("sentencepiece", parts.path, parts.facts, parts.model.checksum,
                  core::checksum(parts.bytes.data(), parts.bytes.size())),
        splitter_(facts().added),
        matched_by_model_(parts.matched) {
    if (legacy()) load(as_is_, parts.bytes, path());
    // Protocol buffers merge a repeated sub-message: ModelProto.normalizer_spec (3) { add_dummy_prefix (3) = false }.
    load(unmarked_, parts.bytes + std::string("\x1A\x02\x18\x00", 4), path());
    for (const AddedToken& token : facts().added) {
      added_[token.id] = token;
      if (token.named) named_.insert(token.id);
    }
    unk_text_length_ = encode_unmarked(facts().unk.text).size();
  }

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override;

  bool has_text(std::int32_t id) const override {
    return id >= 0 && (id < unmarked_.GetPieceSize() || added_.contains(id));
  }

 protected:
  Ids encode_text(std::string_view text, Specials specials, Start start) const override;

 private:
  Ids encode_unmarked(const std::string& text) const {
    Ids ids;
    const auto status = unmarked_.Encode(text, &ids);
    CARAVAN_CHECK(status.ok(), status.ToString());
    return ids;
  }

  /// Text without special tokens, appended. With a mark it begins as SentencePiece's own first word does.
  void append_plain(std::string_view text, bool mark, Ids& ids) const {
    if (text.empty()) return;
    Ids piece;
    if (mark) {
      const auto status = as_is_.Encode(text, &piece);
      CARAVAN_CHECK(status.ok(), status.ToString());
    } else if (text.front() == ' ' || text.starts_with(word_start)) {
      // SentencePiece may drop white space at the start; something before it, which is then cut off, keeps it.
      piece = encode_unmarked(facts().unk.text + std::string(text));
      if (piece.size() >= unk_text_length_)
        piece.erase(piece.begin(), piece.begin() + static_cast<long>(unk_text_length_));
    } else {
      piece = encode_unmarked(std::string(text));
    }
    ids.insert(ids.end(), piece.begin(), piece.end());
  }

  /// Special tokens' texts become the tokens. `mark_first` and `mark_others`: whether the first piece of plain text and
  /// those after special tokens get a mark from SentencePiece. `drop_mark`: one that begins the text goes again where
  /// it is alone before a named token.
  void append_parsed(std::string_view text, bool mark_first, bool mark_others, bool drop_mark, Ids& ids) const {
    std::vector<Part> parts;
    if (facts().split_special) {
      parts.push_back({std::string(text), nullptr});
    } else {
      parts = splitter_.split(text);
    }
    bool mark = mark_first, second_is_token = false;
    for (const Part& part : parts) {
      if (part.token) {
        ids.push_back(part.token->id);
        second_is_token = second_is_token || ids.size() == 2;
      } else {
        append_plain(part.text, mark, ids);
      }
      mark = mark_others;
    }
    if (!drop_mark || ids.size() < 2 || ids[0] != unmarked_.PieceToId(word_start)) return;
    if (!named_.contains(ids[1])) return;
    // An unknown character has the id of a token, too, and so has the piece that an added token took the id of.
    const auto is_piece = [&](std::int32_t id) { return unmarked_.IdToPiece(id) == added_.at(id).content; };
    if (second_is_token || (ids[1] != unmarked_.unk_id() && is_piece(ids[1]))) ids.erase(ids.begin());
  }

  /// No text becomes a special token: the text of one that SentencePiece would match is cut after its first character.
  void append_literal(std::string_view text, bool mark_first, Ids& ids) const {
    std::size_t begin = 0;
    bool mark = mark_first;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (!matched_by_model_.at_start(text.substr(at))) continue;
      const std::size_t cut = at + std::min(code_point_bytes(text[at]), text.size() - at);
      append_plain(text.substr(begin, cut - begin), mark, ids);
      mark = false;
      begin = cut;
      at = cut - 1;
    }
    append_plain(text.substr(begin), mark, ids);
  }

  std::string join(const std::vector<std::string>& pieces) const {
    std::string text;
    const auto status = (legacy() ? as_is_ : unmarked_).Decode(pieces, &text);
    CARAVAN_CHECK(status.ok(), status.ToString());
    return text;
  }

  SentencePieceProcessor as_is_;     // loaded for legacy tokenizers only
  SentencePieceProcessor unmarked_;  // the same model, without a word-start mark before the first word
  AddedTokenSplitter splitter_;
  AddedTokenSplitter matched_by_model_;
  std::map<std::int32_t, AddedToken> added_;
  std::set<std::int32_t> named_;
  std::size_t unk_text_length_ = 0;
};

Ids SentencePieceTokenizer::encode_text(std::string_view text, Specials specials, Start start) const {
  Ids ids;
  // Newer tokenizers write the mark of a text of their own into the text and never let SentencePiece add one.
  std::string rewritten;
  const bool whole = start == Start::text && !legacy();
  if (!legacy()) {
    rewritten = (whole && facts().add_prefix_space ? std::string(word_start) : std::string()) + without_marks(text);
    text = rewritten;
  }
  const bool mark = legacy() && start != Start::continued;
  if (specials == Specials::literal) {
    append_literal(text, mark, ids);
  } else {
    append_parsed(text, mark, legacy(), whole, ids);
  }
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string text;
  std::vector<std::string> pieces;  // plain ones since the last special token
  bool first = true, after_special = false;
  std::size_t at = 0;  // among the tokens that are not skipped
  for (const std::int32_t id : ids) {
    CARAVAN_CHECK(id >= 0, "token id ", id);
    if (!has_text(id)) continue;
    const auto found = added_.find(id);
    if (found != added_.end()) {
      const AddedToken& token = found->second;
      if (skip_special && (token.special || token.named)) continue;
      if (!after_special && !first && legacy()) text += ' ';
      text += join(pieces) + token.content;
      pieces.clear();
      after_special = true;
    } else {
      std::string piece = unmarked_.IdToPiece(id);
      const bool has_mark = piece.starts_with(word_start);
      // encode put a mark before the text; here it goes again. After a first special token it is shown instead.
      if (first && has_mark && facts().add_prefix_space) piece.erase(0, word_start.size());
      if (after_special && at == 1 && !has_mark && facts().add_prefix_space) text += ' ';
      pieces.push_back(std::move(piece));
      after_special = false;
    }
    first = false;
    ++at;
  }
  return text + join(pieces);
}

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const std::string& model_file) {
  return std::make_unique<SentencePieceTokenizer>(read_parts(model_file));
}

}  // namespace caravan::data
