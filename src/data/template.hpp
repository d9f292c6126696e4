// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/options.hpp"
#include "data/record.hpp"
#include "data/tokenizer.hpp"

namespace caravan::data {

/// Why a record gave no document.
enum class Dropped { no, many_turns, long_prompt, no_label };

struct Rendered {
  Dropped dropped = Dropped::no;
  bool cut = false;   // the record was longer than a sequence: its end, eos included, is lost
  Document document;  // at most `sequence` tokens; empty when dropped
};

class Template {
 public:
  /// sequence: tokens; documents are cut there. max_prompt: tokens before the first answer, 0: no limit.
  Template(const Tokenizer& tokenizer, TemplateKind kind, std::int64_t sequence, std::int64_t max_prompt)
      : tokenizer_(tokenizer), kind_(kind), sequence_(sequence), max_prompt_(max_prompt) {}

  /// With idae_official a document may be without labels, as in the official code, whose loss is NaN then.
  Rendered render(const Record& record) const;

  /// The tokens up to the answer, bos included, of a conversation without earlier turns, as `kind` would train it.
  std::vector<std::int32_t> prompt(std::string_view instruction, std::string_view input) const;

 private:
  Rendered render_corrected(const Record& record) const;
  Rendered render_official(const Record& record) const;
  std::vector<std::int32_t> encode_official(std::string_view text, bool eos) const;

  const Tokenizer& tokenizer_;
  TemplateKind kind_;
  std::int64_t sequence_;
  std::int64_t max_prompt_;
};

}  // namespace caravan::data
