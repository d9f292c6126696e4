// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace caravan::watch {

/// The thread that made it, seen from another one: whether it gets on, and where it is. One at a time in a process.
class MainThread {
 public:
  /// Takes a real-time signal that nobody handles yet; without one there is no stack.
  MainThread();
  ~MainThread();
  MainThread(const MainThread&) = delete;
  MainThread& operator=(const MainThread&) = delete;

  /// Changes while any thread of the process but these (as the kernel numbers them) faults memory in, reads or writes:
  /// signs of life in a long computation, or in a save that other threads do. The threads to leave out are those that
  /// write as long as the process lives, whatever it does: core::attendants().
  static std::uint64_t signs_of_work(std::span<const int> but);

  /// Its stack, a line per frame, the innermost first; or in one line why there is none, after so many seconds. Calls
  /// `meanwhile` now and then.
  /// Names of functions are those that the program and its libraries export; others show as an address in their file.
  std::string stack(double seconds, const std::function<void()>& meanwhile) const;

 private:
  pthread_t thread_;
  int task_;        // the kernel's number of the thread
  int signal_ = 0;  // 0: none was free
  struct sigaction former_ {};
};

}  // namespace caravan::watch
