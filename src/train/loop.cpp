// SPDX-License-Identifier: Apache-2.0
#include "train/loop.hpp"

#include <chrono>

#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "train/profile.hpp"

namespace caravan::train {
namespace {

StepReport compute_step(const LoopParts& parts, Progress& progress) {
  parts.trainer.clock().begin(Phase::data);
  const data::GlobalBatch global = parts.batches.next(progress.position);
  std::vector<data::TokenBatch> micro_batches;
  for (std::int64_t m = 0; m < parts.batches.accumulation(); ++m) {
    micro_batches.push_back(parts.batches.micro_batch(global, m, parts.context.grid.dp_rank()));
  }
  const StepReport report = parts.trainer.step(progress.step + 1, micro_batches, {global.tokens, global.targets});
  ++progress.step;
  progress.tokens += report.tokens;
  progress.response_tokens += report.targets;
  return report;
}

}  // namespace

Ended run_loop(const LoopParts& parts, Progress& progress) {
  using Clock = std::chrono::steady_clock;
  const std::int64_t last = parts.trainer.schedule().steps;
  const auto due = [&](std::int64_t every) { return every > 0 && progress.step % every == 0; };
  std::optional<Profiler> profiler;
  if (parts.profile) profiler.emplace(parts.context.groups);
  while (progress.step < last) {
    const auto start = Clock::now();
    const StepReport report = compute_step(parts, progress);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    std::optional<StepProfile> profile;
    if (profiler) profile = profiler->step(seconds, report.phases);
    std::optional<double> held_out_loss;
    if (due(parts.evaluate_every)) held_out_loss = parts.held_out_loss();
    if (parts.metrics) parts.metrics->record(report, seconds, held_out_loss, profile);
    parts.at_step_boundary();
    const std::int64_t signal = parts.context.groups.world->all_reduce(
        "agree on stopping", std::int64_t{core::StopRequest::signal()}, comm::Reduce::max);
    if (progress.step == last || signal != 0 || due(parts.save_every)) parts.save(progress);
    if (signal != 0 && progress.step < last) {
      core::log("stopped by signal ", signal, " after step ", progress.step, " of ", last,
                "; the same command goes on from here");
      return Ended::stopped;
    }
  }
  return Ended::finished;
}

}  // namespace caravan::train
