// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/special_tokens.hpp"

namespace caravan::data {

/// What a special token's text ("</s>") inside a text means.
enum class Specials {
  parsed,   // that token, as Hugging Face's tokenizers read it
  literal,  // those characters: what a user wrote can never become a control token
};

/// What stands before a text. It decides on the word-start mark, which SentencePiece puts before a first word.
enum class Start {
  text,           // nothing: a text of its own
  after_special,  // a special token; legacy tokenizers put a mark here, others do not
  continued,      // other text: never a mark
};

struct EncodeOptions {
  bool bos = false;
  bool eos = false;
  Specials specials = Specials::parsed;
  Start start = Start::text;
};

/// A tokenizer with the meaning of Hugging Face's slow one (transformers 4.44). Constant after construction: several
/// threads may encode and decode at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// `text` is UTF-8; "" gives no tokens but the asked-for bos and eos. Throws (exit 2) when bos or eos is asked for
  /// and the tokenizer has none.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of the tokens. Ids from 0 on that have none, as the last rows of a padded model, give nothing.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special) const = 0;
  /// Whether an id stands for a text.
  virtual bool has_text(std::int32_t id) const = 0;

  /// -1 when the tokenizer has no such token.
  std::int32_t bos_id() const { return facts_.bos.id; }
  std::int32_t eos_id() const { return facts_.eos.id; }
  /// "<s>", or "" when there is none.
  const std::string& bos_text() const { return facts_.bos.text; }
  const std::string& eos_text() const { return facts_.eos.text; }
  /// add_bos_token and add_eos_token: Hugging Face's call of the tokenizer begins every text with bos, ends it with
  /// eos.
  bool adds_bos() const { return facts_.add_bos; }
  bool adds_eos() const { return facts_.add_eos; }
  bool legacy() const { return facts_.legacy; }
  const SpecialTokens& facts() const { return facts_; }
  /// Logs where a file says something else than the one that counts. For who uses the tokenizer, not who looks at it.
  void log_warnings() const;
  /// One more than the largest id.
  std::int64_t vocabulary() const { return facts_.vocabulary; }

  /// What decides which ids a text gets: how it splits texts, its named tokens, flags, and checksums of its added
  /// tokens and of its vocabulary. See describe_differences().
  nlohmann::ordered_json identity() const;
  /// XXH3-64 of identity(), 16 hexadecimal digits: the same for the same tokens in other files.
  const std::string& fingerprint() const { return fingerprint_; }
  /// Whether a packed file's fingerprint is of this tokenizer. Earlier versions wrote the XXH3-64 of tokenizer.model.
  bool matches(const std::string& fingerprint) const {
    return fingerprint == fingerprint_ || fingerprint == file_checksum_;
  }
  /// The file with the vocabulary.
  const std::string& path() const { return path_; }

 protected:
  /// `kind` is how texts are split ("sentencepiece"), `vocabulary_checksum` of all that decides it beside the facts,
  /// `file_checksum` the XXH3-64 of the file `path`.
  Tokenizer(std::string kind, std::string path, SpecialTokens facts, std::string vocabulary_checksum,
            std::string file_checksum);
  /// A text that is not empty, without bos and eos.
  virtual std::vector<std::int32_t> encode_text(std::string_view text, Specials specials, Start start) const = 0;

 private:
  std::string kind_, path_;
  SpecialTokens facts_;
  std::string vocabulary_checksum_, file_checksum_, fingerprint_;
};

/// `path` is a folder with a tokenizer's files, or a tokenizer.model, whose folder may have the others. Throws (exit 2)
/// when there is none, one that is not supported, or one whose files are damaged or contradict each other.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

/// In what two tokenizers differ, by their identity(): "eos_token is "</s>" (id 2), but it was "<|im_end|>" (id 384)".
/// Empty where `was` says nothing, as in packed files of earlier versions.
std::vector<std::string> describe_differences(const nlohmann::ordered_json& is, const nlohmann::ordered_json& was);

}  // namespace caravan::data
