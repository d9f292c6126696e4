// SPDX-License-Identifier: Apache-2.0
#include "convert/locked_folder.hpp"

#include <vector>

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;

fs::path topmost_missing(fs::path path) {
  while (path.has_relative_path() && !fs::exists(path.parent_path())) path = path.parent_path();
  return path;
}

}  // namespace

fs::path without_last_slash(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

LockedFolder::LockedFolder(const fs::path& folder)
    : folder_(without_last_slash(folder)), made_(topmost_missing(folder_)) {
  try {
    fs::create_directories(folder_);
    lock_.emplace(folder_);
  } catch (...) {
    remove_empty();
    throw;
  }
}

LockedFolder::~LockedFolder() {
  lock_.reset();
  remove_empty();
}

void LockedFolder::clear() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename() != "lock") found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path);
}

// remove() takes empty folders only: whoever has put something there keeps it.
void LockedFolder::remove_empty() noexcept {
  std::error_code ignored;
  for (fs::path path = folder_; path.string().size() >= made_.string().size(); path = path.parent_path()) {
    fs::remove(path, ignored);
  }
}

}  // namespace caravan::convert
