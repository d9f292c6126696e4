// SPDX-License-Identifier: Apache-2.0
#include "core/leave.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>

#include "core/awake_clock.hpp"
#include "core/background_thread.hpp"
#include "core/log.hpp"

namespace caravan::core {
namespace {

constexpr std::chrono::seconds longest_farewell{3};

/// When the process is to be gone, by the time for which it runs: after a suspension it still has the rest.
struct Term {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<double> end;  // by awake_seconds()
  ExitCode code = ExitCode::internal;
  std::string message;

  void watch() {
    std::unique_lock lock(mutex);
    for (double left = 0; (left = *end - awake_seconds()) > 0;) {
      changed.wait_for(lock, std::chrono::duration<double>(left));
    }
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
    const std::string text = error_text(message);
    const std::future<void> written = write_apart(text);
    if (written.valid()) {
      written.wait_for(longest_farewell);
    } else {
      write_to_stderr(text);
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
    one.end = awake_seconds() + seconds;
    one.code = code;
    one.message = message;
  }
  one.changed.notify_all();
  if (first && !run_apart([&one] { one.watch(); })) leave_at_once(code, message);
}

}  // namespace caravan::core
