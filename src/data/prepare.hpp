// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/options.hpp"

namespace caravan::data {

/// One written file.
struct PreparedPart {
  std::string path;  // "" when there is no such file
  std::uint64_t documents = 0, sequences = 0, tokens = 0, labelled = 0;
};

/// The model that the data are for.
struct PrepareBase {
  std::string folder{};                      // has the tokenizer when data.tokenizer is empty
  std::optional<std::int64_t> vocabulary{};  // rows of its embedding; none: not known, then train looks
};

struct PrepareReport {
  std::int64_t records = 0;      // in the source, damaged ones included
  std::int64_t damaged = 0;      // left out: on_error = skip
  std::int64_t many_turns = 0;   // left out: idae_official takes one turn only
  std::int64_t long_prompt = 0;  // left out: max_prompt
  std::int64_t no_label = 0;     // left out: the prompt fills the sequence (idae)
  std::int64_t unlabelled = 0;   // kept without a label (idae_official)
  std::int64_t cut = 0;          // kept, but longer than a sequence: the end was cut off
  PreparedPart train, held_out;
  double seconds = 0;

  /// For people: counts, what was left out and why, files.
  std::vector<std::string> lines() const;
};

/// Source → template → tokenizer → packer → packed file, and the held-out file if one is asked for. `sequence`: tokens
/// of a sequence (train.sequence). `base` says what the model has. `program`: name and version, kept in the files. The
/// files appear whole at the end; nothing is written on an error. Throws exit 2 on wrong options, a damaged record
/// (on_error = stop) or when no record is left, 74 when the storage is full.
PrepareReport prepare(const Options& options, std::int64_t sequence, const PrepareBase& base,
                      const std::string& program);

}  // namespace caravan::data
