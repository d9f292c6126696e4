// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/packed_file.hpp"

namespace caravan::data {

/// What a packed file says of itself, by its header and its first section alone.
struct PackedSummary {
  PackedMetadata metadata;
  std::int64_t sequences = 0;
  std::string fingerprint;  // as PackedFile::fingerprint()
};

/// Reads no token, however large the file is, and so finds no damage among them. Throws (exit 2) with the path when the
/// header or the first section is damaged.
PackedSummary read_packed_summary(const std::string& path);

}  // namespace caravan::data
