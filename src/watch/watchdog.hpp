// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "watch/file_keeper.hpp"
#include "watch/late_ranks.hpp"
#include "watch/main_thread.hpp"
#include "watch/node_pages.hpp"

namespace caravan::watch {

/// How long things take, in seconds, from watchdog.seconds.
struct Timing {
  explicit Timing(double deadline);
  double deadline;
  double tick;           // between two looks at the own main thread
  double pace;           // between two writes of the own file
  double again;          // between two looks for the late rank
  double still_on_node;  // without a beat, before a rank of this node counts as one that does not move
  double still_elsewhere;
  double stack;     // waiting for the stack of the late rank, for files, or for an error to get out of the program
  double patience;  // more than any verdict takes
};

/// Ends a job that hangs, with a report that names the late rank. Two threads, neither of which calls MPI: one looks at
/// this process's main thread and at the others' pages; the other one reads and writes files. A file system that does
/// not answer holds up only the latter: what is known of the ranks of this node is enough then.
///
/// When the main thread has waited in a collective for the deadline, its watchdog looks at what all ranks publish until
/// each has been seen to move, or has not for long enough, and finds who is late. A late rank that shows signs of
/// progress (it computes, or moves bytes) is waited for: then the collective's own deadline is put off, and the
/// watchdog looks again later, and says once per deadline who it is. Else it raises the alarm, unless another rank has;
/// asks for the late rank's stack; and hands the report to the main thread, which throws it out of the collective (exit
/// 76). If the collective ends meanwhile, the alarm is withdrawn.
///
/// When no rank waits and none has shown a sign of progress for the deadline, which is a hang outside of collectives or
/// a job of one rank, one watchdog prints what it knows with the stack of its main thread, and ends the process (exit
/// 76); the launcher then ends the others. It does so, too, when an error that a collective threw does not come to the
/// end of the program: what unwinds the stack may wait for a file system.
class Watchdog {
 public:
  /// On the main thread, which publishes into `pages` from now on. `folder`: for the ranks of other nodes; it exists,
  /// the same on all ranks, or is empty.
  Watchdog(const std::filesystem::path& folder, double deadline, NodePages pages);
  /// Takes this rank's files away. Where the file system does not answer, an error that is on its way goes on without
  /// that, and has so long to end the program; else, the process ends (exit 76).
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch();
  /// Waits, shorter when the watchdog ends: then true.
  bool ended_after(double seconds);
  /// The same, and the time that passed without that for which the process was stopped: while a job is suspended, or a
  /// script stops it, nobody is late.
  std::optional<double> passed_in(double seconds);

  RankState own() const;
  void look(const RankState& now, double passed);
  void look_for_late(const RankState& waiting);
  /// After the verdict has been given: whether it is void, since the collective has ended before the main thread took
  /// it. Ends the process when the main thread neither goes on nor throws it in time.
  bool void_verdict(const std::function<bool()>& still_waits, const std::string& text);
  /// Of the ranks that this one waits for and that work, now and then; unless another rank says the same.
  void warn_who_is_waited_for(const std::vector<RankState>& states);
  void end_if_nobody_waits();
  /// Ends the process when it has been for too long.
  bool error_is_on_its_way(double passed);
  void show_stack_to_who_asks();

  template <typename Answer>
  std::optional<Answer> ask_files(std::function<Answer(const WatchFolder&)> question);
  /// Of the ranks of other nodes, as far as their files can be read now.
  void read_files();
  /// As far as it is known here and now.
  RankState state(int rank) const;
  /// Of all ranks, each seen to move or not; empty as soon as `valid` does not hold.
  std::vector<RankState> observe(const std::function<bool()>& valid);
  /// Why `waiting` goes on; only ranks that are hung are named: none, and nobody is to blame.
  Finding judge(const std::vector<RankState>& states) const;
  /// Whether this rank is the one to report.
  bool leads();
  void withdraw();
  std::string stacks(const std::vector<RankState>& states, const std::vector<int>& ranks);
  std::optional<std::string> stack_of(int rank);
  std::string note() const;

  Timing timing_;
  std::shared_ptr<NodePages> pages_;
  std::string host_;
  std::filesystem::path folder_;
  MainThread main_;

  // Of the thread that watches:
  RankState before_;
  std::uint64_t signs_ = 0;
  double waited_ = 0;                  // in the same collective
  double look_at_ = 0;                 // for the late rank, when it has waited so long
  bool put_off_ = false;               // the collective's own deadline
  std::optional<double> warned_at_;    // `waited_`, when the last such warning began to be written
  std::future<void> warning_written_;  // of the last warning
  double quiet_ = 0;                   // without any sign of progress
  double stuck_ = 0;                   // since an error is on its way
  int yielded_ = 0;                    // to another rank of this node that was to report
  bool files_answer_ = true;
  std::map<int, RankState> elsewhere_;  // of ranks of other nodes, when last read
  bool stack_given_ = false;            // for the alarm
  std::int64_t stack_shown_ = 0;        // when; nanoseconds of the steady clock

  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  int exceptions_;  // on their way when this was made
  FileKeeper files_;
  std::jthread watcher_;
};

}  // namespace caravan::watch
