// SPDX-License-Identifier: Apache-2.0
#include "train/loop.hpp"

#include <chrono>

#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "train/profile.hpp"

namespace caravan::train {
namespace {

StepReport compute_step(const LoopParts& parts, const data::GlobalBatch& global, Progress& progress) {
  std::vector<data::TokenBatch> micro_batches;
  for (std::int64_t m = 0; m < parts.batches.accumulation(); ++m) {
    micro_batches.push_back(parts.batches.micro_batch(global, m, parts.context.grid.dp_rank()));
  }
  const StepReport report =
      parts.trainer.step(progress.step + 1, micro_batches, {global.tokens, global.targets}, progress.skipped);
  ++progress.step;
  if (report.skipped) ++progress.skipped;
  progress.tokens += report.tokens;
  progress.response_tokens += report.targets;
  return report;
}

}  // namespace

Ended run_loop(const LoopParts& parts, Progress& progress) {
  using Clock = std::chrono::steady_clock;
  const std::int64_t last = parts.trainer.schedule().steps;
  const auto due = [&](std::int64_t every) { return every > 0 && progress.step % every == 0; };
  NumericsGuard guard(parts.numerics);
  std::optional<Profiler> profiler;
  if (parts.profile) profiler.emplace(parts.context.groups);
  while (progress.step < last) {
    const auto start = Clock::now();
    parts.trainer.clock().begin(Phase::data);
    const data::GlobalBatch global = parts.batches.next(progress.position);
    const StepReport report = compute_step(parts, global, progress);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const std::optional<nlohmann::json> irregular = guard.look_at(report, global);
    std::optional<StepProfile> profile;
    if (profiler) profile = profiler->step(seconds, report.phases);
    std::optional<double> held_out_loss;
    if (due(parts.evaluate_every)) held_out_loss = parts.held_out_loss();
    if (parts.metrics) parts.metrics->record(report, seconds, held_out_loss, {profile, irregular});
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
