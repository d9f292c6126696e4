// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/complaints.hpp"
#include "core/options.hpp"

namespace caravan::data {

/// The text around a record, from the official PESC code:
///   <bos> + ("### System:\n{instruction}\n" if not empty) + "### Human:\n{input}\n### Assistant:\n" + "{output}<eos>"
///   <bos> + "{corpus}<eos>"                                                        when the record has a corpus
enum class TemplateKind : std::uint8_t {
  /// One bos (none if the tokenizer has none); all turns, each answer with its eos labelled; texts of the record never
  /// become special tokens; prompt and answer are encoded apart, so the label mask is exact and a prompt has the
  /// same tokens in training and in generation.
  idae,
  /// What the official code does, literally: a tokenizer that adds bos gives two, one without bos gets the text "None",
  /// special tokens' texts are parsed, the source's tokens are counted without id 0 (so a literal <unk> moves
  /// the mask), only one turn.
  idae_official,
};
constexpr std::array<std::string_view, 2> spellings(TemplateKind) { return {"idae", "idae_official"}; }

/// Which documents share a sequence: none, or those that follow each other, while they fit.
enum class Packing : std::uint8_t { none, simple };
constexpr std::array<std::string_view, 2> spellings(Packing) { return {"none", "simple"}; }

/// What a damaged record does: it ends the program, or is left out and counted.
enum class OnError : std::uint8_t { stop, skip };
constexpr std::array<std::string_view, 2> spellings(OnError) { return {"stop", "skip"}; }

/// Section [data].
struct Options {
  std::string source;
  std::string packed;
  std::int64_t held_out_every = 0;
  std::string held_out;
  TemplateKind prompt_template = TemplateKind::idae;
  Packing packing = Packing::none;
  std::int64_t max_prompt = 0;
  OnError on_error = OnError::stop;
  std::string tokenizer;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit(
        "source", source, core::path(),
        "instructions: a JSON array or JSON lines of {corpus, dataset, instruction, conversation: [{input, output}]}");
    visit("packed", packed, core::path(), "packed token file, which prepare writes and train reads");
    visit(
        "held_out_every", held_out_every, core::whole(0, 1'000'000'000, "records"),
        "hold one record in so many out of training: those whose index is a multiple of it go to the held-out file; 0: "
        "none");
    visit("held_out", held_out, core::path(),
          "packed token file of the held-out records; empty: data.packed with \".heldout\" behind it");
    visit("template", prompt_template, core::choice(),
          "text that is put around each record; idae_official does what the official code does, including its errors");
    visit("packing", packing, core::choice(),
          "none: one record per sequence; simple: consecutive records share a sequence as long as they fit");
    visit("max_prompt", max_prompt, core::whole(0, 1'000'000'000, "tokens"),
          "leave out records whose prompt is longer; 0: no limit");
    visit("on_error", on_error, core::choice(),
          "what prepare does with a damaged record: stop, or skip it and count it");
    visit("tokenizer", tokenizer, core::path(),
          "folder with a tokenizer's files, or its tokenizer.model, for all stages; empty: that of model.base, which "
          "upcycle copies into step 0");
  }

  /// What prepare reads and writes.
  void need_source(core::Complaints& complaints) const {
    complaints.need(source, "data", "source", "the instructions");
    complaints.need(packed, "data", "packed", "the file to write");
  }
  void need_packed(core::Complaints& complaints) const {
    complaints.need(packed, "data", "packed", "the packed tokens, from prepare");
  }
  void need_held_out(core::Complaints& complaints) const {
    if (held_out_every > 0 || !held_out.empty()) return;
    complaints.add(
        "there is nothing to evaluate on: set data.held_out_every and run caravan prepare, or data.held_out");
  }
};

/// Where the held-out records go: held_out, or packed + ".heldout" when that is empty.
inline std::string held_out_path(const Options& options) {
  return options.held_out.empty() ? options.packed + ".heldout" : options.held_out;
}

/// The tokenizer to open: data.tokenizer, or the base model's folder when that is empty.
inline std::string tokenizer_path(const Options& options, const std::string& base_folder) {
  return options.tokenizer.empty() ? base_folder : options.tokenizer;
}

}  // namespace caravan::data
