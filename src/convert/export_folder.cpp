// SPDX-License-Identifier: Apache-2.0
#include "convert/export_folder.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "comm/agreement.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"
#include "run/export_record.hpp"

namespace caravan::convert {

namespace fs = std::filesystem;

namespace {

/// What a user who wants to export again may be about to lose.
std::string what_is_in(const fs::path& folder) {
  for (const char* name : {"config.json", "adapter_config.json"}) {
    if (!fs::exists(folder / name)) continue;
    const std::string model = core::concat("holds a model already (", name, ")");
    try {
      const std::optional<run::ExportRecord> made = run::ExportRecord::read(folder);
      return made ? core::concat(model, ", the export of ", made->describe()) : model;
    } catch (const core::Error&) {
      return model;  // which is in the way, whatever it is
    }
  }
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  if (names.size() > 3) names = {names[0], names[1], core::concat(names.size() - 2, " more")};
  return core::concat("is not empty (it holds ", core::join(names), ")");
}

}  // namespace

void ExportFolder::require_free(const fs::path& folder) {
  const fs::path path = run::without_last_slash(folder);
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) core::bad_input(path.string(), " is a file; choose another export.folder");
  if (!fs::is_empty(path)) {
    core::bad_input(path.string(), " ", what_is_in(path),
                    "; nothing is replaced: choose another export.folder, or remove what is in it");
  }
}

ExportFolder::ExportFolder(comm::Communicator& world, const fs::path& folder)
    : world_(world), folder_(run::without_last_slash(folder)), staging_(folder_.string() + ".unfinished") {
  try {
    comm::on_all_ranks(world_, [&] {
      if (world_.rank() != 0) return;
      require_free(folder_);
      staged_.emplace(staging_);
      staged_->clear();  // what a killed process left
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
  if (!staged_) return;  // the files in it are another process's
  try {
    staged_->clear();
  } catch (const fs::filesystem_error&) {
    // The next export to the same name takes away what stays.
  }
  staged_.reset();
}

void ExportFolder::commit() {
  comm::on_all_ranks(world_, [&] {
    if (world_.rank() != 0) return;
    require_free(folder_);
    staged_->require_ours();
    staged_.reset();
    io::fsync_folder(staging_);
    fs::rename(staging_, folder_);  // also onto an empty folder
    io::fsync_folder(folder_.parent_path());
  });
  committed_ = true;
}

}  // namespace caravan::convert
