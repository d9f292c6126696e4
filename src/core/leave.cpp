// SPDX-License-Identifier: Apache-2.0
#include "core/leave.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "core/log.hpp"

namespace caravan::core {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds longest_farewell{3};

void write_all(int descriptor, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(descriptor, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

// Nobody waits for it, and it takes no signals: they are for the main thread. False when there is no thread to be had.
template <typename Work>
bool run_apart(Work&& work) {
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  bool started = true;
  try {
    std::thread(std::forward<Work>(work)).detach();
  } catch (const std::system_error&) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  return started;
}

/// When the process is to be gone.
struct Term {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Clock::time_point> end;
  ExitCode code = ExitCode::internal;
  std::string message;

  void watch() {
    std::unique_lock lock(mutex);
    while (Clock::now() < *end) changed.wait_until(lock, *end);
    leave_at_once(code, message);
  }
};

// Never destroyed: its thread outlives the static objects.
Term& term() {
  static auto* const instance = new Term;
  return *instance;
}

}  // namespace

void leave_at_once(ExitCode code, const std::string& message) {
  static std::atomic<bool> leaving{false};
  if (leaving.exchange(true)) std::this_thread::sleep_for(2 * longest_farewell);  // another thread does it
  if (!message.empty()) {
    // Standard error may be a pipe that nobody empties, and log.txt may be on a file system that does not answer.
    const auto told = std::make_shared<std::promise<void>>();
    const std::string text = error_text(message);
    const bool apart = run_apart([told, text, file = log_descriptor()] {
      write_all(STDERR_FILENO, text);
      if (file >= 0) write_all(file, text);
      told->set_value();
    });
    if (apart) {
      told->get_future().wait_for(longest_farewell);
    } else {
      write_all(STDERR_FILENO, text);
    }
  }
  ::_exit(static_cast<int>(code));
}

void leave_within(double seconds, ExitCode code, const std::string& message) {
  Term& one = term();
  bool first = false;
  {
    const std::lock_guard lock(one.mutex);
    first = !one.end;
    one.end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    one.code = code;
    one.message = message;
  }
  one.changed.notify_all();
  if (first && !run_apart([&one] { one.watch(); })) leave_at_once(code, message);
}

}  // namespace caravan::core
