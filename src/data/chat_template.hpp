// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "data/options.hpp"
#include "data/tokenizer.hpp"

namespace caravan::data {

/// The template as Hugging Face's chat_template, in Jinja: what it makes of a conversation has, encoded without further
/// special tokens, the tokens that prepare gives it. It takes a system message at the beginning, and messages of user
/// and assistant; others are an error. A special token's text inside a message becomes that token there, which
/// TemplateKind::idae prevents in training.
std::string chat_template(TemplateKind kind, const Tokenizer& tokenizer);

}  // namespace caravan::data
