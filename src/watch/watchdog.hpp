// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "watch/late_ranks.hpp"
#include "watch/main_thread.hpp"
#include "watch/node_pages.hpp"
#include "watch/watch_folder.hpp"

namespace caravan::watch {

/// How long things take, in seconds, from watchdog.seconds.
struct Timing {
  explicit Timing(double deadline);
  double deadline;
  double tick;           // between two looks at the own main thread
  double pace;           // between two writes of the own file
  double still_on_node;  // without a beat, before a rank of this node counts as one that does not move
  double still_elsewhere;
  double stack;     // waiting for the stack of the late rank
  double patience;  // more than any verdict takes
};

/// Ends a job that hangs, with a report that names the late rank. Two threads, neither of which calls MPI: one looks at
/// this process's main thread; the other one reads and writes files, so that a file system that does not answer holds
/// up only the latter.
///
/// When the main thread has waited in a collective for the deadline, its watchdog raises the alarm, unless another rank
/// has; looks at what all ranks publish until each has been seen to move, or has not for long enough; finds who is
/// late; asks for its stack; and hands the report to the main thread, which throws it out of the collective (exit 76).
/// If the collective ends meanwhile, the alarm is withdrawn.
///
/// When no rank waits and none has shown a sign of progress for the deadline, which is a hang outside of collectives or
/// a job of one rank, one watchdog prints what it knows with the stack of its main thread, and ends the process (exit
/// 76); the launcher then ends the others.
class Watchdog {
 public:
  /// On the main thread, which publishes into `pages` from now on. `folder` exists, the same on all ranks.
  Watchdog(const std::filesystem::path& folder, double deadline, NodePages pages);
  /// Takes this rank's files away.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  void end();
  void watch();
  void keep_files();
  /// Waits, shorter when the watchdog ends: then true.
  bool ended_after(double seconds);

  /// The same, and the time that passed, but not much more than was asked for: while a job is suspended, or a script
  /// stops it, nobody is late.
  std::optional<double> passed_in(double seconds);

  RankState own() const;
  RankState state(int rank) const;
  void look(const RankState& now, double passed);
  void wait_for_verdict(const RankState& late);
  void end_if_nobody_waits();
  [[noreturn]] static void end_process(std::string text, bool files_answer);
  /// Of all ranks, each seen to move or not; empty as soon as `valid` does not hold.
  std::vector<RankState> observe(const std::function<bool()>& valid);
  std::string stacks(const std::vector<RankState>& states, const std::vector<int>& ranks);

  Timing timing_;
  NodePages pages_;
  std::string host_;
  WatchFolder folder_;
  MainThread main_;
  std::string verdict_;

  // Of the thread that watches:
  RankState before_;
  std::uint64_t signs_ = 0;
  double waited_ = 0;  // in the same collective
  double quiet_ = 0;   // without any sign of progress

  std::atomic<std::int64_t> files_answered_{0};  // when, by the steady clock
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::jthread watcher_, files_;
};

}  // namespace caravan::watch
