// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>

#include "io/file_descriptor.hpp"

namespace caravan::io {

/// Keeps two jobs from writing into one run folder. flock is unreliable on network file systems, so the lock is a file,
/// FOLDER/lock, made with O_EXCL: {"job", "restart", "host", "pid", "heartbeat"} as JSON (job: SLURM_JOB_ID or "",
/// heartbeat: seconds since 1970). Held by one process of a job, rank 0.
class RunLock {
 public:
  /// Takes the lock, also over from a holder that
  ///   has the same non-empty job id (the job was requeued), or
  ///   ran on this host and no longer lives, or
  ///   is on another host and has not refreshed it for 5 minutes.
  /// Throws (exit 2) naming host, pid, job and folder when another holder is alive.
  explicit RunLock(const std::filesystem::path& folder,
                   std::chrono::seconds refresh_interval = std::chrono::seconds(10));
  /// Removes the lock if it is still this one's.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// Renews the heartbeat; does nothing within refresh_interval of the last time. Called at step boundaries. Throws
  /// (exit 2) when another job has taken the lock over, since going on would mix two runs.
  void refresh();

 private:
  bool is_ours() const;
  void write_heartbeat();

  std::filesystem::path path_;
  std::chrono::seconds refresh_interval_;
  FileDescriptor file_;
  std::chrono::steady_clock::time_point refreshed_;
};

}  // namespace caravan::io
