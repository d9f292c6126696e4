// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace caravan::watch {

/// The thread that made it, seen from another one: whether it gets on, and where it is. One at a time in a process.
class MainThread {
 public:
  /// Takes a real-time signal that nobody handles yet; without one there is no stack.
  MainThread();
  ~MainThread();
  MainThread(const MainThread&) = delete;
  MainThread& operator=(const MainThread&) = delete;

  /// Grows while the thread, or one of these that work for it (as the kernel numbers them), faults memory in, reads or
  /// writes: signs of life in a long computation, or in a save that other threads do. That one of them ends is none:
  /// whoever waits for it goes on then, and shows so itself. For one thread at a time.
  std::uint64_t signs_of_work(const std::vector<int>& workers);

  /// Its stack, a line per frame, the innermost first; or in one line why there is none, after so many seconds. Calls
  /// `meanwhile` now and then.
  /// Names of functions are those that the program and its libraries export; others show as an address in their file.
  std::string stack(double seconds, const std::function<void()>& meanwhile) const;

 private:
  pthread_t thread_;
  int task_;        // the kernel's number of the thread
  int signal_ = 0;  // 0: none was free
  struct sigaction former_ {};
  std::map<int, std::uint64_t> seen_;  // of each thread, when last looked at
  std::uint64_t signs_ = 0;
};

}  // namespace caravan::watch
