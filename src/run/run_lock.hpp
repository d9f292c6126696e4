// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "io/file_descriptor.hpp"
#include "run/lock_holder.hpp"

namespace caravan::run {

struct RunLockTimes {
  std::chrono::milliseconds heartbeat{10'000};     // between two
  std::chrono::milliseconds longest_wait{60'000};  // for a holder that may be about to end
};

/// Keeps two jobs from writing into one folder. flock is unreliable on network file systems, so the lock is a file,
/// FOLDER/lock, made with O_EXCL: a LockHolder as JSON. Held by one process of a job, rank 0. A thread of its own
/// renews the heartbeat from construction to destruction, however long the process computes, loads or waits.
class RunLock {
 public:
  /// Takes the lock, also over from a holder that has ended by the rules of LockJudge; waits for one that may be about
  /// to, saying so in the log. Throws (exit 2) naming folder, host, pid and job when another holder is alive; exit 76
  /// when that is of the same start of our own job and does not end. As io::throw_system_error() does when the file
  /// cannot be written, and (exit 70) when asked to stop while it waits.
  explicit RunLock(const std::filesystem::path& folder, const RunLockTimes& times = {});
  /// Removes the lock if it is still this one's.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// The holder that had ended, whose lock this one has taken over.
  const std::optional<LockHolder>& taken_over_from() const { return former_; }

  /// Throws (exit 76) when the thread has seen that another job took the lock over, since going on would mix two runs.
  /// Not exit 2, which says that nothing was written: the next start is refused with that while the other one lives,
  /// and goes on where the lock was only removed. Costs nothing, unless the thread has not looked for long, as after a
  /// suspension: then it looks itself. For step boundaries.
  void refresh();

  /// Looks at the file now, and throws likewise unless the lock is ours: right before what must not happen to another
  /// run's folder, as a run could do that was suspended for long. By any thread. Throws as io::throw_system_error()
  /// does when that cannot be seen.
  void require_ours();

 private:
  enum class Standing { ours, lost, unclear };

  void take(const std::filesystem::path& folder, const RunLockTimes& times);
  void keep_alive(const std::stop_token& stop);
  /// Sets errno when it is unclear.
  Standing look_once() const;
  Standing look();
  [[noreturn]] void throw_lost() const;
  void write_heartbeat();

  std::filesystem::path path_;
  std::chrono::milliseconds interval_;
  io::FileDescriptor file_;
  std::optional<LockHolder> former_;
  std::atomic<bool> lost_{false};
  std::atomic<double> looked_{0};  // when, by core::elapsed_seconds(), as the others see the heartbeat
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread heart_;
};

}  // namespace caravan::run
