// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/options.hpp"

namespace caravan::train {

/// Constant rate after a linear warm-up.
struct Schedule {
  double lr = 0;
  std::int64_t warmup = 0;  // steps
  std::int64_t steps = 0;   // of the whole run

  /// Rate of step t, counted from 1: lr · min(1, (t − 1) / warmup), so step 1 has rate 0 under a warm-up (transformers'
  /// constant_with_warmup) while the optimizer's moments advance.
  double rate(std::int64_t step) const;
};

/// Full and partial batches of one pass over so many sequences.
inline std::int64_t steps_per_epoch(std::int64_t sequences, std::int64_t batch) {
  return (sequences + batch - 1) / batch;
}

/// One line when the steps behind `done` change nothing, or less than they were meant to: none is left, all have rate
/// 0, or they end before the warm-up does. Nothing otherwise.
std::optional<std::string> without_effect(const Schedule& schedule, std::int64_t done);

Schedule make_schedule(const Options& options, std::int64_t steps_per_epoch);

}  // namespace caravan::train
