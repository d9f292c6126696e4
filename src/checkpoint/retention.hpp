// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run, RUN/checkpoints/step-XXXXXXXX. A folder with a manifest.json is committed; others do not
// count. Called by one rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "core/system_error.hpp"

namespace caravan::checkpoint {

/// CHECKPOINTS/step-00000120.
std::filesystem::path step_folder(const std::filesystem::path& checkpoints, std::int64_t step);

/// Steps of the committed checkpoints, ascending; none when the folder is missing.
std::vector<std::int64_t> committed_steps(const std::filesystem::path& checkpoints);

/// A committed checkpoint that is damaged.
struct PassedOver {
  std::int64_t step = 0;
  std::string reason;                     // one line, with the folder's name
  std::optional<StoreReference> store{};  // as far as its manifest could be read
};

/// The newest committed checkpoint of a step below `below` whose manifest is sound and whose shards are there in their
/// full size. Every newer one that is passed over is added to `passed_over`, or logged as a warning where nobody takes
/// it. Checksums are checked when the tensors are read: on damage found there, ask again with `below` = that step.
/// Throws what is no damage (is_damage): core::SystemError when the system refuses to read one, and NewerVersion.
std::optional<std::filesystem::path> newest_good(const std::filesystem::path& checkpoints,
                                                 std::vector<PassedOver>* passed_over = nullptr,
                                                 std::int64_t below = std::numeric_limits<std::int64_t>::max());

/// Renames the committed checkpoint of a step, so that its name is free when the run saves that step again and no later
/// start chooses it: step-00000120 becomes step-00000120.set-aside, or ….set-aside-2 where that is taken. Returns the
/// new name, durably given; nothing when there is no such checkpoint.
std::optional<std::string> set_aside(const std::filesystem::path& checkpoints, std::int64_t step);

/// What reading a checkpoint ran into, with what that means for the run: the checkpoint was not taken for damaged. Step
/// 0 has none before it, and comes back as it is.
core::SystemError not_damaged(const core::SystemError& refused, const std::filesystem::path& folder, std::int64_t step);

/// Which checkpoints stay, besides step 0.
struct Keep {
  std::int64_t newest = 2;  // so many, at least one
  std::int64_t every = 0;   // those of steps divisible by it; 0: none for that
  bool best = false;        // of those whose step was evaluated, the one with the lowest loss on each held-out set
};

/// What a checkpoint's state says of its held-out loss, if its step was evaluated.
inline constexpr const char* held_out_loss_field = "held_out_loss";
/// And of the set that it is of: any JSON, the same for the same set. Older checkpoints lack it.
inline constexpr const char* held_out_set_field = "held_out_set";

/// A held-out loss, which is comparable with losses of the same set only.
struct HeldOut {
  double loss = 0;
  std::string set;
};

/// Deletes checkpoints of a run. One object for a whole run, since it remembers losses that it has read.
class Retention {
 public:
  Retention(std::filesystem::path checkpoints, const Keep& keep) : checkpoints_(std::move(checkpoints)), keep_(keep) {}

  /// Deletes committed checkpoints but those to keep, and what unfinished saves of steps before the newest committed
  /// one left behind. What cannot be deleted stays, with a warning; all, where a loss cannot be read that may be the
  /// best. Calls `moved` after every file.
  void apply(const std::function<void()>& moved = {});

 private:
  void delete_old(const std::function<void()>& moved);
  std::set<std::int64_t> best_of(const std::vector<std::int64_t>& steps);

  std::filesystem::path checkpoints_;
  Keep keep_;
  std::map<std::int64_t, std::optional<HeldOut>> losses_;
};

}  // namespace caravan::checkpoint
