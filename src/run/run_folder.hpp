// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace caravan::run {

/// The name of the lock in any folder that only one process may write into.
inline constexpr const char* lock_name = "lock";

/// "step-00000120", as the folder of that step's checkpoint is called.
inline std::string step_name(std::int64_t step) {
  constexpr std::size_t digits = 8;
  const std::string number = std::to_string(step);
  return "step-" + std::string(digits - std::min(digits, number.size()), '0') + number;
}

/// The names of all that lies in a run folder; docs/run-folder.md says what each file holds. Touches no file.
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path config() const { return path_ / "config.ini"; }
  std::filesystem::path log() const { return path_ / "log.txt"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path starts() const { return path_ / "starts.jsonl"; }
  std::filesystem::path lock() const { return path_ / lock_name; }
  /// Which job the folder belongs to, also while that job waits to run again; slurm/run.sh writes it.
  std::filesystem::path job_claim() const { return path_ / "job.lock"; }
  std::filesystem::path stopped_early() const { return path_ / "stopped-early"; }
  std::filesystem::path watchdog() const { return path_ / "watchdog"; }

  /// What evaluate says of the checkpoint of a step.
  std::filesystem::path evaluation(std::int64_t step) const {
    return path_ / ("evaluate-" + step_name(step) + ".json");
  }
  /// Where export puts that checkpoint when export.folder does not say: a whole model, or an adapter.
  std::filesystem::path exported(std::int64_t step, bool merged) const {
    return path_ / ((merged ? "export-" : "adapter-") + step_name(step));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace caravan::run
