// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/options.hpp"
#include "data/packed_file.hpp"

// Whether packed files were made by the settings of the moment: what is on the disk may be of earlier ones.
namespace caravan::data {

/// The settings that a packed file was not made with, one text each: "data.template = idae_official, but it was idae".
/// `sequence` is train.sequence. The source is compared by its name and, where it can be read, by its bytes (all of
/// them, in one pass); neither when data.source is empty: who trains need not have it.
std::vector<std::string> other_settings(const PackedMetadata& made, const Options& options, std::int64_t sequence);

/// What prepare would have to do.
struct Prepared {
  bool there = false;                      // data.packed and, with data.held_out_every, the held-out file
  std::vector<std::string> differences{};  // as above, also of the tokenizer; none: both were made by these settings
};

/// Looks at the headers of the files that prepare writes. `base_folder` has the tokenizer when data.tokenizer is empty.
/// Throws (exit 2) with the path when a file is no packed file or is damaged, core::SystemError when the system does
/// not give its bytes.
Prepared prepared(const Options& options, std::int64_t sequence, const std::string& base_folder);

}  // namespace caravan::data
