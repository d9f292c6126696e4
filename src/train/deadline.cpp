// SPDX-License-Identifier: Apache-2.0
#include "train/deadline.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "core/error.hpp"
#include "core/log.hpp"

namespace caravan::train {
namespace {

std::optional<double> number(const char* text) {
  double value = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stopped != end || !(value > 0)) return std::nullopt;
  return value;
}

}  // namespace

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::optional<double> end_of_job() {
  if (const char* text = std::getenv("CARAVAN_END_TIME"); text != nullptr && *text != '\0') {
    if (const auto end = number(text)) return end;
    core::bad_input("the environment variable CARAVAN_END_TIME = ", text,
                    " is no time in unix seconds; set it as date +%s prints one, or unset it");
  }
  const char* text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr || *text == '\0') return std::nullopt;
  const auto end = number(text);
  if (!end) core::log_warning(core::concat("SLURM_JOB_END_TIME = ", text, " is no time in unix seconds; not used"));
  return end;
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
