// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "watch/activity.hpp"

namespace caravan::train {

/// The parts of a step. Reduction and update are what is left of them after backward has hidden its share.
enum class Phase { data, forward, loss, backward, reduction, update };
inline constexpr std::array<const char*, 6> phase_names{"data", "forward", "loss", "backward", "reduction", "update"};

/// Seconds of each phase.
using PhaseSeconds = std::array<double, phase_names.size()>;

/// A stopwatch that always runs for one phase, or for none. Watchdogs of other ranks see which.
class PhaseClock {
 public:
  void begin(Phase phase) {
    end();
    running_ = static_cast<std::size_t>(phase);
    start_ = Clock::now();
    watch::activity().enter_phase(phase_names[running_]);
  }
  void end() {
    if (running_ == none) return;
    seconds_[running_] += std::chrono::duration<double>(Clock::now() - start_).count();
    running_ = none;
  }
  /// Since the last take().
  PhaseSeconds take() {
    end();
    const PhaseSeconds taken = seconds_;
    seconds_.fill(0);
    watch::activity().enter_phase("between steps");
    return taken;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t none = phase_names.size();
  std::size_t running_ = none;
  Clock::time_point start_;
  PhaseSeconds seconds_{};
};

}  // namespace caravan::train
