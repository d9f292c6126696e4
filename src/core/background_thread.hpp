// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <csignal>
#include <stop_token>
#include <system_error>
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

/// A thread beside the main one, which signals are for: it takes none. It only says that the process lives, or watches
/// it: what it reads and writes is no sign that the process gets on. `work` may ask for a stop token. `name` is a
/// literal. Throws std::system_error when the system has no thread left.
template <typename Work>
std::jthread start_attendant(const char* name, Work work) {
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

/// While it lives, this thread is one of the workers.
class AtWork {
 public:
  AtWork();
  ~AtWork();
  AtWork(const AtWork&) = delete;
  AtWork& operator=(const AtWork&) = delete;
};

/// The threads that do a part of the main thread's work now, as the kernel numbers them: what they read and write is
/// the process's progress, as what the main thread does. Threads of libraries are none: many read a clock or a socket
/// as long as the process lives, and those that compute do so together with the thread that asks them to.
std::vector<int> workers();

/// start_attendant() for a worker.
template <typename Work>
std::jthread start_thread(const char* name, Work work) {
  return start_attendant(name, [work = std::move(work)](const std::stop_token& stop) mutable {
    const AtWork at_work;
    if constexpr (std::invocable<Work&, const std::stop_token&>) {
      work(stop);
    } else {
      work();
    }
  });
}

/// A thread that nobody waits for and that takes no signals. It must touch nothing that goes before the process does.
/// False when the system has no thread left.
template <typename Work>
bool run_apart(Work work) {
  const BlockedSignals blocked;
  try {
    std::thread(std::move(work)).detach();
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

}  // namespace caravan::core
