// SPDX-License-Identifier: Apache-2.0
#include "run/locked_folder.hpp"

#include <vector>

#include "run/run_folder.hpp"

namespace caravan::run {

namespace fs = std::filesystem;

fs::path without_last_slash(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

LockedFolder::LockedFolder(const fs::path& folder)
    : folder_(without_last_slash(folder)), made_(folder_), lock_(folder_) {}

LockedFolder::~LockedFolder() {
  lock_.reset();
  std::error_code not_empty;
  fs::remove(folder_, not_empty);  // though another process may have made it, and was killed
}

void LockedFolder::clear() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename() != lock_name) found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path);
}

}  // namespace caravan::run
