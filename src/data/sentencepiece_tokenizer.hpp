// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/tokenizer.hpp"

namespace caravan::data {

/// A SentencePiece model with the meaning of Hugging Face's slow LlamaTokenizer (transformers 4.44), both with
/// legacy = false and true. `model_file` is a tokenizer.model; the other files lie in its folder. Throws as
/// open_tokenizer() does.
std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const std::string& model_file);

}  // namespace caravan::data
