// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "data/options.hpp"
#include "data/tokenizer.hpp"

namespace caravan::data {

/// The template as Hugging Face's chat_template, in Jinja: what it makes of a conversation has, encoded without further
/// special tokens, the tokens that prepare gives it. It takes a system message at the beginning, and messages of user
/// and assistant; others are an error. A special token's text inside a message becomes that token there, which
/// TemplateKind::idae prevents in training.
std::string chat_template(TemplateKind kind, const Tokenizer& tokenizer);

/// The template that a checkpoint was trained with, by its state: that of "packed", what its data were prepared with,
/// else the setting data.template of "config", since earlier versions did not note the first. Empty where neither says.
std::string trained_chat_template(const nlohmann::json& state, const Tokenizer& tokenizer);

}  // namespace caravan::data
