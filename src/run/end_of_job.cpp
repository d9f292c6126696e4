// SPDX-License-Identifier: Apache-2.0
#include "run/end_of_job.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "core/error.hpp"
#include "core/log.hpp"

namespace caravan::run {
namespace {

std::optional<double> number(const char* text) {
  double value = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stopped != end || !(value > 0)) return std::nullopt;
  return value;
}

}  // namespace

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

}  // namespace caravan::run
