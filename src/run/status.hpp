// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "run/lock_holder.hpp"
#include "run/stages.hpp"
#include "run/starts.hpp"

namespace caravan::run {

/// Who holds the lock of a folder.
struct Hold {
  enum class State {
    open,     // nobody
    held,     // its holder lives, or may: a start is refused, or waits
    expired,  // its holder has ended: the next start takes it over
  };
  State state = State::open;
  std::optional<LockHolder> holder{};
  std::string why{};  // "process 12 on this host has ended"
  std::int64_t now = 0;
};

/// What is known of a run: docs/run-folder.md describes every field of its JSON.
struct Status {
  RunFolder folder;
  Checkpoints checkpoints{};
  std::vector<Stage> stages{};
  Hold hold{};
  std::string job_claim{};  // the job of slurm/run.sh that the folder belongs to; empty: none
  std::vector<StartRecord> starts{};
  std::optional<std::int64_t> last_step{};  // of metrics.jsonl: it may be newer than every checkpoint
  std::string stopped_early{};              // what the file says; empty: it is not there
};

/// Changes nothing and takes no lock. May ask Slurm whether the holder's job lives. Throws as read_stages() does.
Status read_status(const RunFolder& run, const StageSettings& settings);

/// Why the newest start is over, or that it runs: one line.
std::string why_stopped(const Status& status);

/// Node hours of all starts; one that still runs counts until now.
double node_hours(const Status& status);

nlohmann::ordered_json to_json(const Status& status);

/// Aligned lines for a person.
std::string to_text(const Status& status);

/// A line NAME=VALUE for a shell script that reads line by line: the value is not quoted.
std::string shell_line(const std::string& name, const std::string& value);
/// Such lines, from the stages and checkpoints alone.
std::string to_shell(const std::vector<Stage>& stages, const Checkpoints& checkpoints);

}  // namespace caravan::run
