// SPDX-License-Identifier: Apache-2.0
#include "run/lock_verdict.hpp"

#include "core/error.hpp"

namespace caravan::run {
namespace {

using Kind = LockVerdict::Kind;

constexpr std::int64_t short_silence = 30;  // seconds: three heartbeats
constexpr std::int64_t long_silence = 300;

}  // namespace

LockVerdict LockJudge::judge(const LockHolder& holder, const LockHolder& self) {
  const std::int64_t silence = self.heartbeat - holder.heartbeat;
  const std::string silent = core::concat("silent for ", silence, " s");
  const bool of_our_job = same_job(holder, self);
  if (same_machine(holder, self)) {
    if (!process_runs(holder))
      return {Kind::take_over, core::concat("process ", holder.pid, " on this host has ended")};
    return {of_our_job ? Kind::wait : Kind::refuse, "that process runs", "wait for its end, end it"};
  }
  if (of_our_job) {
    if (self.restart > holder.restart) return {Kind::take_over, "the same job, queued again"};
    // This process is of a node that Slurm gave up and that came back: starting on would disturb the job itself.
    if (holder.restart > self.restart && silence <= long_silence) {
      return {Kind::refuse, "the same job, queued again since this start of it began",
              "leave the folder to that start"};
    }
    if (silence > short_silence) return {Kind::take_over, "its holder, of the same job, has been " + silent};
    return {Kind::wait, "it still gives signs of life", "start one of them in a job at a time"};
  }
  if (!holder.job.empty() && same_cluster(holder, self)) {
    if (!asked_.contains(holder.job)) asked_[holder.job] = ask_slurm(holder.job);
    const SlurmJob& job = asked_[holder.job];
    if (job.life == SlurmJob::Life::goes_on) {
      const bool waits = job.state == "PENDING";
      return {Kind::refuse,
              core::concat("that job is ", job.state, waits ? ": it will run again and go on in this folder" : ""),
              core::concat("wait for its end, end it (scancel ", holder.job, ")")};
    }
    if (job.life == SlurmJob::Life::over) {
      if (silence > short_silence) return {Kind::take_over, core::concat("job ", holder.job, " has ended")};
      return {Kind::wait, "squeue does not show that job, but it still gives signs of life", "wait for its end"};
    }
  }
  if (silence > long_silence) return {Kind::take_over, "its holder has been " + silent};
  return {Kind::refuse, silence > short_silence ? "it was " + silent : "it gives signs of life",
          core::concat("end it, wait ", long_silence / 60, " minutes after it died")};
}

}  // namespace caravan::run
