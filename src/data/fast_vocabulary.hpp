// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "data/special_tokens.hpp"

namespace caravan::data {

/// Throws (exit 2) when the folder has a tokenizer.json whose vocabulary gives a piece of the model that ordinary text
/// becomes another id, or has a token that is neither a piece nor one of the added tokens: fast tokenizers would give
/// texts other ids. `model_file` is named in messages.
void require_same_vocabulary(const std::string& folder, const Vocabulary& vocabulary, const SpecialTokens& special,
                             const std::string& model_file);

}  // namespace caravan::data
