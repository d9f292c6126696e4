// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer_files.hpp"

namespace caravan::data {

/// What a tokenizer's model says of its own tokens, before any are added.
class Vocabulary {
 public:
  virtual ~Vocabulary() = default;
  virtual std::int32_t size() const = 0;
  virtual std::optional<std::int32_t> find(const std::string& text) const = 0;
  virtual std::string text(std::int32_t id) const = 0;
  /// Whether ordinary text can become this token: no other token may have its id.
  virtual bool in_use(std::int32_t id) const = 0;
};

/// The facts of a tokenizer that stand beside its model, with ids.
struct SpecialTokens {
  struct Named {
    std::string text{};
    std::int32_t id = -1;  // -1: the tokenizer has none
  };
  Named bos, eos, unk, pad;
  std::vector<AddedToken> added;  // by id; the named ones are among them
  bool add_bos = true, add_eos = false, add_prefix_space = true, legacy = true, split_special = false;
  std::int64_t vocabulary = 0;          // one more than the largest id
  std::vector<std::string> warnings{};  // of files that say otherwise
};

/// Gives every named token the id that transformers 4.44 gives it: an added token's, else that of the model's token of
/// this text. One that is neither is added behind all others, but bos, eos and unk are not: they would be untrained
/// rows of the model, or none. Throws (exit 2), with file and field, when one of these three is not found, when a token
/// has two ids, or when two tokens share one. `model_file` is named in messages.
SpecialTokens find_special_tokens(const TokenizerFiles& files, const Vocabulary& vocabulary,
                                  const std::string& model_file);

}  // namespace caravan::data
