// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

#include "comm/communicator.hpp"
#include "run/locked_folder.hpp"

namespace caravan::convert {

/// A folder that appears under its name complete, with the verdict on it, or not at all. Its files are written to
/// staging(), FOLDER.unfinished, which commit() renames. Dropped without commit(), it takes staging() away again, and
/// the parents that it made; what a killed process left there is taken away by the next export to the same name.
class ExportFolder {
 public:
  /// Throws (exit 2) when the name is taken by a file or by a folder that is not empty. By one rank, before long work.
  static void require_free(const std::filesystem::path& folder);

  /// Collective. Throws (exit 2) on all ranks as require_free() does, and when another process writes the same folder.
  ExportFolder(comm::Communicator& world, const std::filesystem::path& folder);
  ~ExportFolder();
  ExportFolder(const ExportFolder&) = delete;
  ExportFolder& operator=(const ExportFolder&) = delete;

  const std::filesystem::path& staging() const { return staging_; }

  /// Collective. All files are in staging() and durable.
  void commit();

 private:
  void take_away() noexcept;

  comm::Communicator& world_;
  std::filesystem::path folder_;
  std::filesystem::path staging_;
  std::optional<run::LockedFolder> staged_;  // by rank 0
  bool committed_ = false;
};

}  // namespace caravan::convert
