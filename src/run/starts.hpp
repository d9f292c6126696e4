// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "run/lock_holder.hpp"

// RUN/starts.jsonl: a line when a start of train begins and one when it ends; docs/run-folder.md has the fields. Times
// are whole seconds since 1970.
namespace caravan::run {

/// One start of train, as its lines tell.
struct StartRecord {
  std::int64_t begin = 0;             // when it took the lock
  std::optional<std::int64_t> end{};  // when it let go of it; of one that was killed, its last heartbeat
  std::int64_t ranks = 0, nodes = 0;
  std::string job{}, host{}, program{};
  std::int64_t pid = 0;                  // of rank 0, on `host`
  std::optional<core::ExitCode> code{};  // none: it was killed or lost, or it still runs
  std::string why{};                     // one line: "all steps are done"
  std::optional<std::int64_t> step{};    // the last that it computed
};

/// In the order of the file; none where it is missing. Lines that are not whole or of another kind are passed over.
std::vector<StartRecord> read_starts(const std::filesystem::path& file);

/// Nodes × hours from begin to end, over the starts that have both; `now` is the end of a newest one that still runs.
double node_hours(const std::vector<StartRecord>& starts, std::optional<std::int64_t> now);

/// Writes the lines of this process's start. What the system refuses is a warning: no start fails for its record.
class StartLog {
 public:
  /// former: the holder that was killed, whose lock this start has taken over.
  StartLog(std::filesystem::path file, std::int64_t began, const std::optional<LockHolder>& former, int ranks,
           int nodes);

  /// Once; later calls do nothing. step: the last that was computed, if one was.
  void end(core::ExitCode code, const std::string& why, std::optional<std::int64_t> step);

 private:
  std::filesystem::path file_;
  bool ended_ = false;
};

}  // namespace caravan::run
