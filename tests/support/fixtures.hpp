// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

namespace caravan::tests {

/// Golden values: $CARAVAN_FIXTURES, or the set in tests/data. Its README.md describes it.
inline std::filesystem::path fixtures() {
  const char* folder = std::getenv("CARAVAN_FIXTURES");
  return folder && *folder ? std::filesystem::path(folder) : std::filesystem::path(CARAVAN_TEST_DATA) / "fixtures";
}

/// The second set, whose README.md describes it: $CARAVAN_FIXTURES_MORE, or the one in tests/data.
inline std::filesystem::path more_fixtures() {
  const char* folder = std::getenv("CARAVAN_FIXTURES_MORE");
  return folder && *folder ? std::filesystem::path(folder) : std::filesystem::path(CARAVAN_TEST_DATA) / "fixtures-more";
}

/// Folders directly in one, in order.
inline std::vector<std::filesystem::path> folders_in(const std::filesystem::path& parent) {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(parent)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace caravan::tests
