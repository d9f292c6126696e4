// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/options.hpp"

namespace caravan::data {

/// Section [data].
struct Options {
  std::string source;
  std::string packed;
  std::int64_t held_out_every = 0;
  std::string held_out;
  std::string prompt_template = "idae";
  std::string packing = "none";
  std::int64_t max_prompt = 0;
  std::string on_error = "stop";
  std::string tokenizer;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit(
        "source", source, core::path(),
        "instructions: a JSON array or JSON lines of {corpus, dataset, instruction, conversation: [{input, output}]}");
    visit("packed", packed, core::path(), "packed token file that prepare writes and train reads");
    visit("held_out_every", held_out_every, core::whole(0, 1'000'000'000, "records"),
          "n: records whose index is divisible by n go to the held-out file; 0: none");
    visit("held_out", held_out, core::path(),
          "packed token file of the held-out records; empty: packed + \".heldout\"");
    visit("template", prompt_template, core::one_of({"idae", "idae_official"}),
          "text around a record; idae_official repeats the official code with its traps");
    visit("packing", packing, core::one_of({"none", "simple"}),
          "none: one record per sequence; simple: records in order share a sequence while they fit");
    visit("max_prompt", max_prompt, core::whole(0, 1'000'000'000, "tokens"),
          "records with a longer prompt are left out; 0: no limit");
    visit("on_error", on_error, core::one_of({"stop", "skip"}),
          "a damaged record stops the program, or is left out and counted");
    visit("tokenizer", tokenizer, core::path(), "tokenizer.model or its folder; empty: the folder in model.base");
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
