// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>

namespace caravan::train {

double Schedule::rate(std::int64_t step) const {
  if (warmup <= 0) return lr;
  return lr * std::min(1.0, static_cast<double>(step - 1) / static_cast<double>(warmup));
}

Schedule make_schedule(const Options& options, std::int64_t steps_per_epoch) {
  Schedule schedule{options.lr, options.warmup_steps, options.steps};
  if (schedule.steps == 0) schedule.steps = options.epochs * steps_per_epoch;
  if (schedule.warmup == 0) {
    schedule.warmup = static_cast<std::int64_t>(std::ceil(options.warmup_ratio * static_cast<double>(schedule.steps)));
  }
  return schedule;
}

}  // namespace caravan::train
