// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace caravan::run {

/// Folders that this process made, and removes again as far as nothing was put into them.
class MadeFolders {
 public:
  /// Makes `folder` and those above it that are missing. Throws std::filesystem::filesystem_error.
  explicit MadeFolders(const std::filesystem::path& folder);
  ~MadeFolders();
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;

 private:
  std::vector<std::filesystem::path> made_;  // innermost first
};

}  // namespace caravan::run
