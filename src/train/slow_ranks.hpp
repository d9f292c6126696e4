// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/mpi_runtime.hpp"

namespace caravan::train {

/// A rank and how long the others waited for it: the upper median of the seconds that ranks spent waiting in
/// collectives, less its own, as a share of the time. What all wait alike, the transfers, cancels out.
struct SlowRank {
  int rank = 0;
  double share = 0;
};

/// All ranks, the slowest first, by the seconds that each waited; equal ones by their number. `seconds` > 0.
std::vector<SlowRank> by_slowness(const std::vector<double>& waited, double seconds);

/// Names ranks that make the others wait, from what the communicators count anyway.
class SlowRanks {
 public:
  /// Looks every so many steps. Collective over the world: gathers the hosts' names. `groups` outlives it.
  SlowRanks(const comm::Groups& groups, std::int64_t every);

  /// After each step, on all ranks. When due it gathers 16 bytes from each rank, logs who was waited for more than a
  /// tenth of the time since the last look, and returns the slowest rank; the same on all ranks. Nothing with one rank.
  std::optional<SlowRank> after_step(std::int64_t step);

 private:
  using Clock = std::chrono::steady_clock;
  double waited() const;

  const comm::Groups& groups_;
  std::int64_t every_;
  std::vector<std::string> hosts_;
  std::int64_t steps_ = 0;  // since the last look
  double waited_ = 0;       // until then
  Clock::time_point since_;
};

}  // namespace caravan::train
