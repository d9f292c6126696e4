// SPDX-License-Identifier: Apache-2.0
#include "run/slurm_job.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>

#include "core/run_program.hpp"

namespace caravan::run {
namespace {

constexpr std::chrono::seconds longest_answer{10};

// All others may come back: SUSPENDED, REQUEUE_HOLD, SPECIAL_EXIT, …
constexpr std::array<std::string_view, 9> over{"COMPLETED", "FAILED",    "CANCELLED", "TIMEOUT",      "NODE_FAIL",
                                               "PREEMPTED", "BOOT_FAIL", "DEADLINE",  "OUT_OF_MEMORY"};

bool is_job_id(const std::string& text) {
  return !text.empty() && text[0] >= '0' && text[0] <= '9' &&
         text.find_first_not_of("0123456789_+") == std::string::npos;
}

std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

}  // namespace

SlurmJob ask_slurm(const std::string& job) {
  if (!is_job_id(job)) return {};
  // What a user sets for squeue would filter jobs out, or ask another cluster.
  const std::optional<core::ProgramResult> answer = core::run_program(
      {"squeue", "-h", "-t", "all", "-j", job, "-o", "%T"}, {"SQUEUE_", "SLURM_CLUSTERS="}, longest_answer);
  if (!answer) return {};
  if (answer->status != 0) {
    const bool not_known = lower_case(answer->output).find("invalid job id") != std::string::npos;
    return {not_known ? SlurmJob::Life::over : SlurmJob::Life::unknown, {}};
  }
  SlurmJob found{SlurmJob::Life::over, {}};  // forgotten just now
  std::istringstream words(answer->output);
  for (std::string state; words >> state;) {  // a job array or a job of several parts has several
    found.state = state;
    if (std::find(over.begin(), over.end(), state) == over.end()) return {SlurmJob::Life::goes_on, state};
  }
  return found;
}

}  // namespace caravan::run
