// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace caravan::core {

/// Seconds for which this process has run, from an arbitrary beginning. While it is stopped, by SIGSTOP or a batch
/// system that suspends jobs, or the machine sleeps, this clock stands still. The one clock of the process for whatever
/// others are given time for: a thread of its own, started by the first call, notices that the process was stopped; it
/// counts at most longest_tick of each such time. On a machine so busy that this thread does not run for longer, the
/// clock is behind, never ahead. Any thread may ask.
double awake_seconds();
inline constexpr double longest_tick = 0.5;

/// Seconds as other machines count them, from an arbitrary beginning: also those for which the process was stopped or
/// this machine slept. For how old a thing is that others look at.
double elapsed_seconds();

/// How long something takes, without the time for which the process was stopped.
class AwakeStopwatch {
 public:
  void restart() { start_ = awake_seconds(); }
  double seconds() const { return awake_seconds() - start_; }

 private:
  double start_ = awake_seconds();
};

}  // namespace caravan::core
