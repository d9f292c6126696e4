// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace caravan::run {

/// The name of the lock in any folder that only one process may write into.
inline constexpr const char* lock_name = "lock";

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
  /// Files of the watchdog of train, and of a command that may run beside it ("evaluate").
  std::filesystem::path watchdog() const { return path_ / "watchdog"; }
  std::filesystem::path watchdog_of(const std::string& command) const { return path_ / command; }

  /// What evaluate says of the checkpoint of a step.
  std::filesystem::path evaluation(std::int64_t step) const;
  /// Where export puts that checkpoint when export.folder does not say: a whole model, or an adapter.
  std::filesystem::path exported(std::int64_t step, bool merged) const;

 private:
  std::filesystem::path path_;
};

}  // namespace caravan::run
