// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

namespace caravan::run {

/// When the job will be ended, in unix seconds: CARAVAN_END_TIME, else SLURM_JOB_END_TIME, which Slurm sets; none
/// without them. A CARAVAN_END_TIME that is no such number throws (exit 2); Slurm's is passed over with a warning.
std::optional<double> end_of_job();

}  // namespace caravan::run
