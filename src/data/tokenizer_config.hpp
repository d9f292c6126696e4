// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace caravan::data {

/// A token that is found in a text before the tokenizer proper sees it.
struct AddedToken {
  std::string content;
  std::optional<std::int32_t> id;  // none: the tokenizer's model knows it
  bool special = true;             // left out by decode(…, skip_special)
  bool strip_left = false;         // it swallows white space before it
  bool strip_right = false;        // … and after it
};

/// What Hugging Face's tokenizer_config.json says about a SentencePiece tokenizer; the defaults are those of
/// LlamaTokenizer (transformers 4.44), which also hold when there is no such file.
struct TokenizerConfig {
  bool add_bos_token = true;
  bool add_prefix_space = true;
  bool legacy = true;  // true: a word-start mark after every special token
  std::optional<std::string> bos = "<s>", eos = "</s>", unk = "<unk>", pad;
  std::vector<AddedToken> added;  // from added_tokens_decoder
};

/// Reads the file. Throws (exit 2) with file and field when it is not JSON or a field has another type.
TokenizerConfig read_tokenizer_config(const std::string& path);

}  // namespace caravan::data
