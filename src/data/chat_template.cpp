// SPDX-License-Identifier: Apache-2.0
#include "data/chat_template.hpp"

#include <algorithm>

namespace caravan::data {
namespace {

/// What stands before the first message; see Template::prompt() and encode_official().
std::string beginning(TemplateKind kind, const Tokenizer& tokenizer) {
  constexpr const char* bos = "{{ bos_token }}";
  if (kind == TemplateKind::idae) return tokenizer.bos_id() >= 0 ? bos : "";
  if (tokenizer.bos_id() < 0) return "None";
  return tokenizer.adds_bos() ? std::string(bos) + bos : bos;
}

/// What stands behind an answer; see encode_official(), which writes one eos, and gets another from the tokenizer.
std::string end_of_answer(TemplateKind kind, const Tokenizer& tokenizer) {
  return kind == TemplateKind::idae_official && tokenizer.adds_eos() ? "eos_token + eos_token" : "eos_token";
}

}  // namespace

std::string chat_template(TemplateKind kind, const Tokenizer& tokenizer) {
  // In one line, so that it does not depend on how a program treats a line's end after a block.
  return beginning(kind, tokenizer) +
         R"({% for message in messages %})"
         R"({% if message['role'] == 'system' and loop.first %})"
         R"({% if message['content'] %}{{ '### System:\n' + message['content'] + '\n' }}{% endif %})"
         R"({% elif message['role'] == 'user' %}{{ '### Human:\n' + message['content'] + '\n' }})"
         R"({% elif message['role'] == 'assistant' %}{{ '### Assistant:\n' + message['content'] + )" +
         end_of_answer(kind, tokenizer) +
         R"( }})"
         R"({% else %}{{ raise_exception('This template takes a system message at the beginning, )"
         R"(and messages of user and assistant.') }}{% endif %})"
         R"({% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %})";
}

std::string trained_chat_template(const nlohmann::json& state, const Tokenizer& tokenizer) {
  const auto section = [](const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_object() ? *found : nlohmann::json::object();
  };
  const std::string set = section(section(state, "config"), "data").value("template", "");
  const std::string name = section(state, "packed").value("template", set);
  const auto kinds = spellings(TemplateKind{});
  const auto kind = std::find(kinds.begin(), kinds.end(), name);
  return kind == kinds.end() ? "" : chat_template(static_cast<TemplateKind>(kind - kinds.begin()), tokenizer);
}

}  // namespace caravan::data
