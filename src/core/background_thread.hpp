// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <csignal>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace caravan::core {

/// While it lives, this thread takes no signals, nor do the threads that it starts, for good.
class BlockedSignals {
 public:
  BlockedSignals();
  ~BlockedSignals();
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t former_;
};

/// What top -H, debuggers and tests call this thread; at most 15 characters.
void name_this_thread(const char* name);

/// A thread beside the main one, which signals are for: it takes none. `work` may ask for a stop token. `name` is a
/// literal. Throws std::system_error when the system has no thread left.
template <typename Work>
std::jthread start_thread(const char* name, Work work) {
  const BlockedSignals blocked;
  return std::jthread([name, work = std::move(work)](const std::stop_token& stop) mutable {
    name_this_thread(name);
    if constexpr (std::invocable<Work&, const std::stop_token&>) {
      work(stop);
    } else {
      work();
    }
  });
}

/// Makes this thread an attendant: it only says that the process lives, or watches it. What it reads and writes is no
/// sign that the process gets on.
class Attendance {
 public:
  Attendance();
  ~Attendance();
  Attendance(const Attendance&) = delete;
  Attendance& operator=(const Attendance&) = delete;
};

/// The threads that are attendants now, as the kernel numbers them.
std::vector<int> attendants();

/// start_thread() for an attendant.
template <typename Work>
std::jthread start_attendant(const char* name, Work work) {
  return start_thread(name, [work = std::move(work)](const std::stop_token& stop) mutable {
    const Attendance attendance;
    if constexpr (std::invocable<Work&, const std::stop_token&>) {
      work(stop);
    } else {
      work();
    }
  });
}

}  // namespace caravan::core
