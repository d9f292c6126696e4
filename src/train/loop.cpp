// SPDX-License-Identifier: Apache-2.0
#include "train/loop.hpp"

#include <chrono>

#include "comm/agreement.hpp"
#include "core/log.hpp"
#include "train/profile.hpp"
#include "train/save_cycle.hpp"

namespace caravan::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<data::TokenBatch> micro_batches_of(const LoopParts& parts, const data::GlobalBatch& global) {
  std::vector<data::TokenBatch> micro_batches;
  for (std::int64_t m = 0; m < parts.batches.accumulation(); ++m) {
    micro_batches.push_back(parts.batches.micro_batch(global, m, parts.context.grid.dp_rank()));
  }
  return micro_batches;
}

StepReport compute_step(const LoopParts& parts, const data::GlobalBatch& global,
                        const std::vector<data::TokenBatch>& micro_batches, Progress& progress) {
  const StepReport report =
      parts.trainer.step(progress.step + 1, micro_batches, {global.tokens, global.targets}, progress.skipped);
  ++progress.step;
  if (report.skipped) ++progress.skipped;
  progress.tokens += report.tokens;
  progress.response_tokens += report.targets;
  return report;
}

class Loop {
 public:
  Loop(const LoopParts& parts, Progress& progress)
      : parts_(parts),
        progress_(progress),
        saves_(*parts.context.groups.world, parts.saver,
               {.every = parts.save_every,
                .seconds = parts.save_seconds,
                .patience = parts.patience,
                .deadline = parts.deadline,
                .alive = parts.alive},
               parts.metrics),
        last_(parts.trainer.schedule().steps),
        guard_(parts.numerics) {
    if (parts.profile) profiler_.emplace(parts.context.groups);
  }

  LoopEnd run() {
    if (progress_.step < last_) saves_.require_time_for_a_step();
    while (progress_.step < last_ && !saves_.stops()) step_or_finish_save();
    if (progress_.step == last_) return {Ended::finished};
    core::log("stopped by ", saves_.why_it_stops(), " after step ", progress_.step, " of ", last_,
              "; the same command goes on from here");
    return {Ended::stopped, saves_.signal()};
  }

 private:
  void step_or_finish_save() {
    try {
      step();
    } catch (const comm::AgreedError& error) {
      if (error.code() != core::ExitCode::peer_lost) saves_.finish_before_error();  // else it is what hangs
      throw;
    }
  }

  void step() {
    const auto start = Clock::now();
    const core::AwakeStopwatch stopwatch;
    watch::activity().enter_step(progress_.step + 1);
    parts_.trainer.clock().begin(Phase::data);
    const data::GlobalBatch global = parts_.batches.next(progress_.position);
    const std::vector<data::TokenBatch> micro_batches = micro_batches_of(parts_, global);
    const StepReport report = compute_step(parts_, global, micro_batches, progress_);
    const double seconds = seconds_since(start);
    saves_.stepped(stopwatch.seconds());

    StepExtras extras;
    extras.irregular = guard_.look_at(report, global);
    if (parts_.slow_ranks) extras.slowest = parts_.slow_ranks->after_step(progress_.step);
    if (profiler_) {
      // A step that is skipped sends less than the formulas say.
      const plan::Traffic computed = report.skipped ? plan::Traffic() : parts_.trainer.traffic(micro_batches);
      extras.profile = profiler_->step(seconds, report.phases, computed);
    }
    const std::optional<double> held_out_loss = held_out_loss_if_due();
    parts_.alive();

    extras.save = saves_.after_step({.progress = progress_,
                                     .last = progress_.step == last_,
                                     .skipped = report.skipped,
                                     .held_out_loss = held_out_loss});
    // Before the save of this step counts: a start that goes on from it must find the step's line.
    if (parts_.metrics) parts_.metrics->record(report, seconds, held_out_loss, extras);
    saves_.after_line();
  }

  std::optional<double> held_out_loss_if_due() {
    if (parts_.evaluate_every == 0 || progress_.step % parts_.evaluate_every != 0) return std::nullopt;
    const std::optional<double> loss = parts_.held_out_loss([this] { return saves_.agree_to_stop(); });
    if (profiler_) profiler_->begin();  // what an evaluation sends is not the next step's
    return loss;
  }

  const LoopParts& parts_;
  Progress& progress_;
  SaveCycle saves_;
  std::int64_t last_;
  NumericsGuard guard_;
  std::optional<Profiler> profiler_;
};

}  // namespace

LoopEnd run_loop(const LoopParts& parts, Progress& progress) { return Loop(parts, progress).run(); }

}  // namespace caravan::train
