// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
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
  std::filesystem::path lock() const { return path_ / lock_name; }
  std::filesystem::path stopped_early() const { return path_ / "stopped-early"; }
  std::filesystem::path watchdog() const { return path_ / "watchdog"; }

 private:
  std::filesystem::path path_;
};

}  // namespace caravan::run
