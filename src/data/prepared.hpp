// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/options.hpp"
#include "data/packed_file.hpp"
#include "data/tokenizer.hpp"

// Whether packed files were made by the settings of the moment: what is on the disk may be of earlier ones.
namespace caravan::data {

/// How the source is compared with the one that a packed file was made from.
enum class SourceCheck : std::uint8_t {
  name,   // by its name alone
  quick,  // and by its bytes, unless it has the size of that time and was not touched since the packed file was written
  bytes,  // and by its bytes: all are read, in one pass
};

/// The settings that a packed file was not made with, one text each: "data.template = idae_official, but it was idae".
/// `sequence` is train.sequence. Of the source only the name is compared when it cannot be read, and nothing when
/// data.source is empty: who trains need not have it.
std::vector<std::string> other_settings(const PackedFile& packed, const Options& options, std::int64_t sequence,
                                        SourceCheck check);

/// In what a tokenizer differs from the one that a packed file was made with: "eos_token is "</s>" (id 2), but it was
/// …". Of files of earlier versions only tokenizer.model and the token that records end with are known. Throws (exit 2)
/// when such a file is damaged.
std::vector<std::string> other_tokenizer(const PackedFile& packed, const Tokenizer& tokenizer);

/// What prepare would have to do.
struct Prepared {
  bool there = false;                      // data.packed and, with data.held_out_every, the held-out file
  std::vector<std::string> differences{};  // as above, also of the tokenizer; none: what is there has these settings
};

/// Looks at the headers of the files that prepare writes. `base_folder` has the tokenizer when data.tokenizer is empty.
/// Throws (exit 2) with the path when a file is no packed file or is damaged, core::SystemError when the system does
/// not give its bytes.
Prepared prepared(const Options& options, std::int64_t sequence, const std::string& base_folder,
                  SourceCheck check = SourceCheck::bytes);

}  // namespace caravan::data
