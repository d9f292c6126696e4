// SPDX-License-Identifier: Apache-2.0
#include "data/template.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace caravan::data {
namespace {

using Ids = std::vector<std::int32_t>;

std::string turn_text(std::string_view instruction, std::string_view input) {
  std::string text;
  if (!instruction.empty()) text.append("### System:\n").append(instruction).append("\n");
  return text.append("### Human:\n").append(input).append("\n### Assistant:\n");
}

void append(Document& document, const Ids& ids, bool labelled) {
  document.tokens.insert(document.tokens.end(), ids.begin(), ids.end());
  document.labelled.insert(document.labelled.end(), ids.size(), labelled ? 1 : 0);
}

}  // namespace

Rendered Template::render(const Record& record) const {
  Rendered result = kind_ == TemplateKind::idae ? render_corrected(record) : render_official(record);
  if (result.dropped != Dropped::no) {
    result.document = {};
    return result;
  }
  const auto most = static_cast<std::size_t>(sequence_);
  if (result.document.tokens.size() > most) {
    result.cut = true;
    result.document.tokens.resize(most);
    result.document.labelled.resize(most);
  }
  if (kind_ == TemplateKind::idae && result.document.targets() == 0) return {Dropped::no_label, false, {}};
  return result;
}

Rendered Template::render_corrected(const Record& record) const {
  Rendered result;
  Document& document = result.document;
  // After bos and after an answer's eos a text goes on from a special token.
  Start start = Start::text;
  if (tokenizer_.bos_id() >= 0) {
    append(document, {tokenizer_.bos_id()}, false);
    start = Start::after_special;
  }
  if (!record.corpus.empty()) {
    append(document, tokenizer_.encode(record.corpus, {.eos = true, .specials = Specials::literal, .start = start}),
           true);
    return result;
  }
  for (std::size_t turn = 0; turn < record.turns.size(); ++turn) {
    const std::string_view instruction = turn == 0 ? std::string_view(record.instruction) : std::string_view();
    const std::string asked = turn_text(instruction, record.turns[turn].input);
    append(document, tokenizer_.encode(asked, {.specials = Specials::literal, .start = start}), false);
    if (turn == 0 && max_prompt_ > 0 && document.tokens.size() > static_cast<std::size_t>(max_prompt_)) {
      return {Dropped::long_prompt, false, {}};
    }
    const EncodeOptions answer{.eos = true, .specials = Specials::literal, .start = Start::continued};
    append(document, tokenizer_.encode(record.turns[turn].output, answer), true);
    start = Start::after_special;
  }
  return result;
}

Ids Template::encode_official(std::string_view text, bool eos) const {
  // A format string writes a missing bos as the word None.
  std::string whole = tokenizer_.bos_id() >= 0 ? tokenizer_.bos_text() : "None";
  return tokenizer_.encode(whole.append(text), {.bos = tokenizer_.adds_bos(), .eos = eos});
}

Rendered Template::render_official(const Record& record) const {
  std::string source, target;
  if (!record.corpus.empty()) {
    target = record.corpus;
  } else {
    if (record.turns.size() != 1) return {Dropped::many_turns, false, {}};
    source = turn_text(record.instruction, record.turns.front().input);
    target = record.turns.front().output;
  }
  Rendered result;
  const bool eos = tokenizer_.adds_eos();
  Ids source_ids = encode_official(source, eos);
  if (max_prompt_ > 0 && record.corpus.empty() && source_ids.size() > static_cast<std::size_t>(max_prompt_)) {
    return {Dropped::long_prompt, false, {}};
  }
  result.document.tokens = encode_official(source + target + tokenizer_.eos_text(), eos);
  source_ids.resize(std::min(source_ids.size(), static_cast<std::size_t>(sequence_)));
  // The length is counted by comparison with the padding token, which is 0, <unk>.
  const auto length = source_ids.size() - static_cast<std::size_t>(std::count(source_ids.begin(), source_ids.end(), 0));
  result.document.labelled.assign(result.document.tokens.size(), 1);
  const auto masked = static_cast<std::ptrdiff_t>(std::min(length, result.document.labelled.size()));
  std::fill_n(result.document.labelled.begin(), masked, std::uint8_t{0});
  return result;
}

Ids Template::prompt(std::string_view instruction, std::string_view input) const {
  const std::string text = turn_text(instruction, input);
  if (kind_ == TemplateKind::idae_official) return encode_official(text, false);
  if (tokenizer_.bos_id() < 0) return tokenizer_.encode(text, {.specials = Specials::literal});
  return tokenizer_.encode(text, {.bos = true, .specials = Specials::literal, .start = Start::after_special});
}

}  // namespace caravan::data
