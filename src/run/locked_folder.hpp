// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

#include "run/made_folders.hpp"
#include "run/run_lock.hpp"

namespace caravan::run {

/// Absolute, and without the slash that may end a folder's name: its parent is another folder, a suffix makes a
/// sibling.
std::filesystem::path without_last_slash(const std::filesystem::path& folder);

/// A folder, made if it is missing, that only this process writes into: it holds a lock as long as this object lives.
/// Then the lock goes, and so does the folder, with parents that were made for it, if it is empty.
class LockedFolder {
 public:
  /// Throws as RunLock does when another process holds the lock; what was made is gone again then.
  explicit LockedFolder(const std::filesystem::path& folder);
  ~LockedFolder();
  LockedFolder(const LockedFolder&) = delete;
  LockedFolder& operator=(const LockedFolder&) = delete;

  /// Removes all that is in the folder but the lock.
  void clear();
  /// See RunLock: right before what is in the folder begins to count.
  void require_ours() { lock_->require_ours(); }

 private:
  std::filesystem::path folder_;
  MadeFolders made_;
  std::optional<RunLock> lock_;
};

}  // namespace caravan::run
