// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>

namespace caravan::tests {

/// Golden values: $CARAVAN_FIXTURES, or the set in tests/data. Its README.md describes it.
inline std::filesystem::path fixtures() {
  const char* folder = std::getenv("CARAVAN_FIXTURES");
  return folder && *folder ? std::filesystem::path(folder) : std::filesystem::path(CARAVAN_TEST_DATA) / "fixtures";
}

}  // namespace caravan::tests
