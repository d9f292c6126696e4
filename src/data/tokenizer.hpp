// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

/// A SentencePiece tokenizer with the meaning of Hugging Face's slow LlamaTokenizer (transformers 4.44), both with
/// legacy = false and true: tokenizer.model and, when it lies beside it, tokenizer_config.json. Constant after
/// construction: several threads may encode and decode at once.
class Tokenizer {
 public:
  /// `path` is a tokenizer.model or a folder with one. Throws (exit 2) when there is none or it is damaged.
  explicit Tokenizer(const std::string& path);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// `text` is UTF-8; "" gives no tokens but the asked-for bos and eos. Throws (exit 2) when bos or eos is asked for
  /// and the tokenizer has none.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of the tokens. Throws (exit 2) on an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  /// -1 when the tokenizer has no such token.
  std::int32_t bos_id() const;
  std::int32_t eos_id() const;
  std::int32_t unk_id() const;
  std::int32_t pad_id() const;
  /// "<s>", or "" when there is none.
  const std::string& bos_text() const;
  const std::string& eos_text() const;
  /// add_bos_token of the configuration: Hugging Face's call of the tokenizer begins every text with bos.
  bool adds_bos() const;
  bool legacy() const;
  /// One more than the largest id.
  std::int64_t vocabulary() const;
  /// XXH3-64 of tokenizer.model, 16 hexadecimal digits.
  const std::string& fingerprint() const;
  /// The tokenizer.model that was read.
  const std::string& path() const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace caravan::data
