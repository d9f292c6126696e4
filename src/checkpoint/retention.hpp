// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run, RUN/checkpoints/step-XXXXXXXX. A folder with a manifest.json is committed; others do not
// count. Called by one rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace caravan::checkpoint {

/// CHECKPOINTS/step-00000120.
std::filesystem::path step_folder(const std::filesystem::path& checkpoints, std::int64_t step);

/// Steps of the committed checkpoints, ascending; none when the folder is missing.
std::vector<std::int64_t> committed_steps(const std::filesystem::path& checkpoints);

/// The newest committed checkpoint of a step below `below` whose manifest is sound and whose shards are there in their
/// full size. The reason for every newer one that is passed over goes to `passed_over`, or as a warning into the log
/// where nobody takes it. Checksums are checked when the tensors are read: on damage found there, ask again with
/// `below` = that step.
std::optional<std::filesystem::path> newest_good(const std::filesystem::path& checkpoints,
                                                 std::vector<std::string>* passed_over = nullptr,
                                                 std::int64_t below = std::numeric_limits<std::int64_t>::max());

/// Deletes committed checkpoints but the newest `keep` (at least one) and step 0, and what unfinished saves of steps
/// before the newest committed one left behind.
void keep_newest(const std::filesystem::path& checkpoints, std::int64_t keep);

}  // namespace caravan::checkpoint
