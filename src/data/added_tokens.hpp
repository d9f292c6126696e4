// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_files.hpp"

namespace caravan::data {

/// Finds added tokens in texts: the leftmost first, and of several there the longest.
class AddedTokenSplitter {
 public:
  explicit AddedTokenSplitter(const std::vector<AddedToken>& tokens);

  /// The token whose text stands at the beginning of `text`, which is not empty; null when there is none.
  const AddedToken* at_start(std::string_view text) const;

  struct Part {
    std::string text;                   // not empty
    const AddedToken* token = nullptr;  // null: plain text
  };
  /// The parts of a text, as transformers' slow tokenizers cut it: white space beside a token goes where the token
  /// strips it, and a token that is to be a single word is plain text where it is none.
  std::vector<Part> split(std::string_view text) const;

 private:
  const AddedToken* token_of(const std::string& text) const;

  std::vector<AddedToken> tokens_;          // longest text first
  std::array<bool, 256> begins_a_token_{};  // by first byte
};

}  // namespace caravan::data
