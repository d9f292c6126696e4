// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "run/lock_holder.hpp"
#include "run/slurm_job.hpp"

namespace caravan::run {

/// Whether a lock that is there may be taken over.
struct LockVerdict {
  enum class Kind {
    take_over,
    wait,  // its holder may be about to end, or be seen to have ended, within the next half minute
    refuse,
  };
  Kind kind;
  std::string why;       // "process 12 on this host has ended"
  std::string advice{};  // to who is refused, besides choosing another folder
};

/// The rules, from the surest sign to the least:
///   a process of this machine holds the lock until it ends, however silent it is, whatever the jobs;
///   the same job, queued again (a greater restart count), takes it over, and a process of the former start that comes
///     back leaves it to that one;
///   the same job, started again in its allocation (slurm/run.sh does when a rank or a node is lost): once the holder
///     has been silent for 30 s;
///   a job that squeue says goes on, or will, holds it, however silent its processes are: it may be suspended. One that
///     has ended, or that squeue does not know, holds it until it has been silent for 30 s: another cluster's jobs, and
///     with Slurm's PrivateData those of other users, are not known either;
///   else 5 minutes of silence end a hold.
/// An own process that runs, or one of the same job that is not silent yet, is waited for.
class LockJudge {
 public:
  /// Asks squeue once for each job.
  LockVerdict judge(const LockHolder& holder, const LockHolder& self);

 private:
  std::map<std::string, SlurmJob> asked_;
};

}  // namespace caravan::run
