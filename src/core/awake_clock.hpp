// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace caravan::core {

/// The time for which this process has run. While it is stopped, by SIGSTOP or a batch system that suspends jobs, or
/// the machine sleeps, this clock stands still and the system's clocks run on. By an attendant's ticks.
class AwakeClock {
 public:
  /// Seconds by which this clock may be behind; on a busy machine a tick may take longer, which counts as stopped.
  static constexpr double resolution = 0.5;

  AwakeClock();
  AwakeClock(const AwakeClock&) = delete;
  AwakeClock& operator=(const AwakeClock&) = delete;

  /// Since this object was made.
  double seconds() const { return seconds_; }

 private:
  std::atomic<double> seconds_{0};
  std::jthread ticker_;
};

/// How long something takes, without the time for which the process was stopped.
class AwakeStopwatch {
 public:
  explicit AwakeStopwatch(const AwakeClock& clock) : clock_(&clock) {}
  void restart() { *this = AwakeStopwatch(*clock_); }
  /// As the system's clock has it, but at most what the process has run.
  double seconds() const {
    const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return std::min(all, clock_->seconds() - awake_ + 2 * AwakeClock::resolution);
  }

 private:
  const AwakeClock* clock_;
  double awake_ = clock_->seconds();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace caravan::core
