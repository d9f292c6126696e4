// SPDX-License-Identifier: Apache-2.0
#include "core/awake_clock.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/background_thread.hpp"

namespace caravan::core {
namespace {

using Nanoseconds = std::int64_t;

constexpr Nanoseconds second = 1'000'000'000;
constexpr auto longest = static_cast<Nanoseconds>(longest_tick * second);

Nanoseconds steady() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// The steady clock without what ticks took too long. Never destroyed: its thread outlives the static objects.
class Clock {
 public:
  /// The same on every thread, and never less than before.
  Nanoseconds now() {
    if (!ticking_ && !start()) return steady() - stopped_;  // the system has no thread left
    while (true) {
      const std::uint64_t version = version_;
      const Nanoseconds tick = tick_, stopped = stopped_, at = steady();
      if (version % 2 == 0 && version == version_) return std::min(at, tick + longest) - stopped;
    }
  }

  /// In a process that was forked, which has no threads.
  void forget_thread() {
    version_ = 0;
    ticking_ = false;
  }

 private:
  bool start() {
    const std::lock_guard lock(mutex_);
    if (ticking_) return true;
    tick_ = steady();
    try {
      start_attendant("caravan-clock", [this] { run(); }).detach();
    } catch (const std::system_error&) {
      return false;
    }
    ticking_ = true;
    return true;
  }

  [[noreturn]] void run() {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      ++version_;  // odd: the two do not belong together
      const Nanoseconds at = steady();
      stopped_ += std::max<Nanoseconds>(0, at - tick_ - longest);
      tick_ = at;
      ++version_;
    }
  }

  std::mutex mutex_;  // of the start
  std::atomic<bool> ticking_{false};
  std::atomic<std::uint64_t> version_{0};
  std::atomic<Nanoseconds> tick_{0};     // the last one, by the steady clock
  std::atomic<Nanoseconds> stopped_{0};  // what was not counted until then
};

Clock& clock() {
  static auto* const instance = [] {
    auto* made = new Clock;
    pthread_atfork(nullptr, nullptr, [] { clock().forget_thread(); });
    return made;
  }();
  return *instance;
}

}  // namespace

double awake_seconds() { return static_cast<double>(clock().now()) / second; }

double elapsed_seconds() {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / second;
}

}  // namespace caravan::core
