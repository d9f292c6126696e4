// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace caravan::data {

/// A token that is found in a text before the tokenizer proper sees it.
struct AddedToken {
  std::string content{};
  std::int32_t id = -1;
  bool special = false;      // left out by decode(…, skip_special)
  bool named = false;        // one of bos_token … additional_special_tokens: left out, too
  bool strip_left = false;   // lstrip: it swallows white space before it
  bool strip_right = false;  // rstrip: … and after it
  bool single_word = false;  // it is none where anything but a space stands beside it
  bool has_flags = true;     // its file says the flags; where not, those of the role that names it count
  std::string origin{};      // file and field, for messages
};

/// A token that a role names: "eos_token", or one of additional_special_tokens. Its id is not here.
struct NamedToken {
  std::string role{};
  AddedToken token{};  // without id
};

/// What Hugging Face's files beside a tokenizer's model say, in the order of precedence of transformers 4.44: with an
/// added_tokens_decoder in tokenizer_config.json, special_tokens_map.json, added_tokens.json and tokenizer.json do not
/// count; without, special_tokens_map.json replaces the names in tokenizer_config.json, and added tokens are those of
/// added_tokens.json and tokenizer.json. What no file says has the defaults of LlamaTokenizer.
struct TokenizerFiles {
  bool add_bos_token = true;
  bool add_eos_token = false;
  bool add_prefix_space = true;
  bool legacy = true;  // true: a word-start mark after every special token
  bool split_special_tokens = false;
  std::vector<NamedToken> named{};  // in transformers' order: bos, eos, unk, sep, pad, cls, mask, additional ones
  std::vector<AddedToken> added{};  // by id
  std::vector<std::string> warnings{};
};

/// Reads the files that the folder has. Throws (exit 2) with file and field when one is not JSON, has a key twice or a
/// field of another type, or when a token has two ids or an id two tokens. `warnings` are of what does not count though
/// it says otherwise.
TokenizerFiles read_tokenizer_files(const std::string& folder);

}  // namespace caravan::data
