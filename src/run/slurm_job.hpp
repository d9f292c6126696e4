// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::run {

/// What Slurm knows of a job.
struct SlurmJob {
  enum class Life {
    over,     // it has ended, or Slurm does not know it (any more)
    goes_on,  // it runs, waits, is suspended, will be queued again, …
    unknown,  // no answer: there is no squeue, or no controller, or it takes longer than 10 s
  };
  Life life = Life::unknown;
  std::string state{};  // Slurm's word, "RUNNING"; empty when there is none
};

/// Asks squeue of this cluster. A text that is no job id (a digit, then digits, "_" and "+") is not passed on.
SlurmJob ask_slurm(const std::string& job);

}  // namespace caravan::run
