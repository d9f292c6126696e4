// SPDX-License-Identifier: Apache-2.0
#include "train/deadline.hpp"

#include <algorithm>
#include <chrono>

namespace caravan::train {
double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void Deadline::stepped(double seconds) { step_ = std::max(step_, seconds); }

void Deadline::saved(double seconds) { save_ = std::max(save_.value_or(0), seconds); }

void Deadline::saving(double seconds) {
  if (seconds > save()) save_ = seconds;
}

bool Deadline::fits_save(double now) const { return !end_ || now + save() <= *end_; }

bool Deadline::fits(double seconds, bool under_way, double now) const {
  return !end_ || now + seconds + (under_way ? 2 : 1) * save() + margin_ <= *end_;
}

}  // namespace caravan::train
