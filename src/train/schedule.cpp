// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace caravan::train {

double Schedule::rate(std::int64_t step) const {
  if (warmup <= 0) return lr;
  return lr * std::min(1.0, static_cast<double>(step - 1) / static_cast<double>(warmup));
}

std::optional<std::string> without_effect(const Schedule& schedule, std::int64_t done) {
  const auto [lr, warmup, steps] = schedule;
  if (steps <= done) {
    return core::concat("nothing is left to train: the plan has ", steps, " steps, and ", done,
                        " are done; more come from train.steps or train.epochs");
  }
  const std::string warm_up = core::concat("a warm-up of ", warmup, " for ", steps, steps == 1 ? " step" : " steps");
  const std::string advice = "; shorten it with train.warmup_steps or train.warmup_ratio, or plan more steps";
  if (schedule.rate(steps) == 0) return warm_up + " leaves none with a rate above 0: nothing is trained" + advice;
  if (schedule.rate(steps) < lr) return warm_up + " does not end before they do: train.lr is never reached" + advice;
  return std::nullopt;
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
