// SPDX-License-Identifier: Apache-2.0
#include "convert/export_folder.hpp"

#include "comm/agreement.hpp"
#include "core/error.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;

// Without the slash that may end a folder's name, so that a suffix makes a sibling.
fs::path plain(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

fs::path topmost_missing(fs::path path) {
  while (path.has_relative_path() && !fs::exists(path.parent_path())) path = path.parent_path();
  return path;
}

// What a killed process left; all but the lock, which is this process's by now.
void clear(const fs::path& staging) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(staging)) {
    if (entry.path().filename() != "lock") leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove_all(path);
}

}  // namespace

void ExportFolder::require_free(const fs::path& folder) {
  const fs::path path = plain(folder);
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) core::bad_input(path.string(), " is a file; choose another export.folder");
  if (!fs::is_empty(path)) {
    core::bad_input(path.string(), " is not empty; choose another export.folder, or remove what is in it");
  }
}

ExportFolder::ExportFolder(comm::Communicator& world, const fs::path& folder)
    : world_(world), folder_(plain(folder)), staging_(folder_.string() + ".unfinished") {
  try {
    comm::on_all_ranks(world_, [&] {
      if (world_.rank() != 0) return;
      require_free(folder_);
      made_ = topmost_missing(staging_);
      fs::create_directories(staging_);
      lock_.emplace(staging_);
      clear(staging_);
    });
  } catch (const core::Error&) {
    take_away();
    throw;
  }
}

ExportFolder::~ExportFolder() {
  if (!committed_) take_away();
}

void ExportFolder::take_away() noexcept {
  if (world_.rank() != 0 || made_.empty()) return;
  std::error_code ignored;
  if (lock_) {  // else the files in it are another process's
    lock_.reset();
    fs::remove_all(staging_, ignored);
  }
  // remove() takes empty folders only: whoever has put something there since keeps it.
  for (fs::path path = staging_; path.string().size() >= made_.string().size(); path = path.parent_path()) {
    fs::remove(path, ignored);
  }
}

void ExportFolder::commit() {
  comm::on_all_ranks(world_, [&] {
    if (world_.rank() != 0) return;
    require_free(folder_);
    lock_.reset();
    io::fsync_folder(staging_);
    fs::rename(staging_, folder_);  // also onto an empty folder
    io::fsync_folder(folder_.parent_path());
  });
  committed_ = true;
}

}  // namespace caravan::convert
