// SPDX-License-Identifier: Apache-2.0
#include "run/made_folders.hpp"

#include <system_error>

namespace caravan::run {

namespace fs = std::filesystem;

MadeFolders::MadeFolders(const fs::path& folder) {
  for (fs::path missing = folder; !missing.empty() && !fs::exists(missing); missing = missing.parent_path()) {
    made_.push_back(missing);
  }
  fs::create_directories(folder);
}

// remove() takes empty folders only: whoever has put something there keeps it.
MadeFolders::~MadeFolders() {
  std::error_code not_empty;
  for (const fs::path& folder : made_) fs::remove(folder, not_empty);
}

}  // namespace caravan::run
