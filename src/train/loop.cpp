// SPDX-License-Identifier: Apache-2.0
#include "train/loop.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "comm/agreement.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "train/boundary.hpp"
#include "train/profile.hpp"

namespace caravan::train {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// computed: what the step's collectives should send; null: not wanted.
StepReport compute_step(const LoopParts& parts, const data::GlobalBatch& global, Progress& progress,
                        plan::Traffic* computed) {
  std::vector<data::TokenBatch> micro_batches;
  for (std::int64_t m = 0; m < parts.batches.accumulation(); ++m) {
    micro_batches.push_back(parts.batches.micro_batch(global, m, parts.context.grid.dp_rank()));
  }
  const StepReport report =
      parts.trainer.step(progress.step + 1, micro_batches, {global.tokens, global.targets}, progress.skipped);
  if (computed && !report.skipped) *computed = parts.trainer.traffic(micro_batches);
  ++progress.step;
  if (report.skipped) ++progress.skipped;
  progress.tokens += report.tokens;
  progress.response_tokens += report.targets;
  return report;
}

std::string text_of(double seconds) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f s", seconds);
  return text.data();
}

class Loop {
 public:
  Loop(const LoopParts& parts, Progress& progress)
      : parts_(parts),
        progress_(progress),
        boundary_(*parts.context.groups.world, parts.saver, parts.deadline, parts.save_seconds, parts.patience),
        last_(parts.trainer.schedule().steps),
        guard_(parts.numerics) {
    if (parts.profile) profiler_.emplace(parts.context.groups);
  }

  Ended run() {
    if (progress_.step < last_) require_time_for_a_step();
    while (progress_.step < last_) {
      Agreement now;
      try {
        now = step();
      } catch (const comm::AgreedError& error) {
        if (error.code() != core::ExitCode::peer_lost) finish_save_of_earlier_step();  // else it is what hangs
        throw;
      }
      if (progress_.step == last_ || !now.stop()) continue;
      const std::string why =
          now.signal != 0 ? core::concat("signal ", now.signal) : std::string("the job's time limit, which is near,");
      core::log("stopped by ", why, " after step ", progress_.step, " of ", last_,
                "; the same command goes on from here");
      return Ended::stopped;
    }
    return Ended::finished;
  }

 private:
  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  void require_time_for_a_step() {
    const Agreement now = boundary_.agree(0);
    if (!now.stop()) return;
    if (now.signal != 0) {
      throw comm::AgreedError(core::ExitCode::internal, core::StopRequest::message(static_cast<int>(now.signal)));
    }
    throw comm::AgreedError(core::ExitCode::internal,
                            "the time limit is too short for start + one step: before the job's end there is no time "
                            "for a save, which is expected to take " +
                                text_of(boundary_.deadline().save()) + ", and checkpoint.margin");
  }

  /// In slices, so that no rank waits in a collective for the files of another, and signals are seen.
  Agreement wait_for_save() {
    while (true) {
      parts_.alive();
      parts_.saver.written(1s);
      const Agreement now = boundary_.agree(0);
      if (now.written) return now;
    }
  }

  /// What training waits for at a step boundary because of saves.
  template <typename Work>
  void stall(SaveTimes& times, const Work& work) {
    watch::activity().enter_phase("save");
    const core::AwakeStopwatch stopwatch = boundary_.stopwatch();
    work();
    const double seconds = stopwatch.seconds();
    stalled_ += seconds;
    times.stalled = times.stalled.value_or(0) + seconds;
  }

  void begin(SaveTimes& times, std::optional<double> held_out_loss, bool doubtful) {
    save_due_ = false;
    stalled_ = saving_ = 0;
    boundary_.save_begun();
    boundary_.stroke_begun();
    stall(times, [&] { parts_.saver.begin(progress_, held_out_loss, doubtful); });
  }

  Agreement wait(SaveTimes& times) {
    Agreement now;
    stall(times, [&] { now = wait_for_save(); });
    times.durable = now.write_seconds;
    return now;
  }

  /// All ranks have written, the slowest for so long.
  void advance(double write_seconds, SaveTimes& times) {
    std::optional<std::string> what;
    const double before = stalled_;
    stall(times, [&] {
      if (parts_.metrics) parts_.metrics->sync();  // a step's line is to be durable before its checkpoint counts
      what = parts_.saver.advance();
    });
    boundary_.stroke_begun();
    saving_ += write_seconds + stalled_ - before;
    if (!what) return;
    times.durable = saving_;
    counted_ = true;
    boundary_.deadline().saved(saving_);
    core::log("saved ", *what, " (stalled ", text_of(stalled_), ", durable after ", text_of(saving_), ")");
  }

  /// Until no save is under way.
  Agreement finish(SaveTimes& times, Agreement now) {
    while (parts_.saver.under_way()) {
      now = wait(times);
      advance(now.write_seconds, times);
    }
    return now;
  }

  /// An error of all ranks leaves as much behind as if training had waited for that save.
  void finish_save_of_earlier_step() {
    SaveTimes times;
    try {
      finish(times, {});
    } catch (const comm::AgreedError& error) {
      core::log_warning(error.what());
    }
  }

  Agreement step() {
    Saver& saver = parts_.saver;
    const auto start = Clock::now();
    const core::AwakeStopwatch stopwatch = boundary_.stopwatch();
    watch::activity().enter_step(progress_.step + 1);
    parts_.trainer.clock().begin(Phase::data);
    const data::GlobalBatch global = parts_.batches.next(progress_.position);
    plan::Traffic computed;
    const StepReport report = compute_step(parts_, global, progress_, profiler_ ? &computed : nullptr);
    const double seconds = seconds_since(start);
    boundary_.deadline().stepped(stopwatch.seconds());
    StepExtras extras;
    extras.irregular = guard_.look_at(report, global);
    if (parts_.slow_ranks) extras.slowest = parts_.slow_ranks->after_step(progress_.step);
    if (profiler_) extras.profile = profiler_->step(seconds, report.phases, computed);
    std::optional<double> held_out_loss;
    if (due(parts_.evaluate_every)) {
      held_out_loss = parts_.held_out_loss([&] { return boundary_.agree(0).stop(); });
      if (profiler_) profiler_->begin();  // what an evaluation sends is not the next step's
    }
    parts_.alive();

    save_due_ = save_due_ || due(parts_.save_every);
    // In a row of skipped steps the weights may be what is wrong: the next step that updates them is saved instead.
    Agreement now = boundary_.agree(boundary_.deadline().longest_step(), save_due_ && !report.skipped);
    save_due_ = save_due_ || now.save_due;
    SaveTimes& times = extras.save;
    if (saver.under_way() && now.written) advance(now.write_seconds, times);
    if (progress_.step == last_ || now.stop() || (save_due_ && !report.skipped)) {
      now = finish(times, now);
      if (!counted_ || progress_.step == last_ || !now.too_late) {
        begin(times, held_out_loss, report.skipped);
      } else {
        core::log_warning("there is no time left for another save; the newest is of an earlier step");
      }
    }
    const bool wait_for_it = saver.under_way() && (progress_.step == last_ || now.stop() || !saver.in_background());
    if (wait_for_it) now = wait(times);
    // Before the save of this step counts: a start that goes on from it must find the step's line.
    if (parts_.metrics) parts_.metrics->record(report, seconds, held_out_loss, extras);
    if (wait_for_it) {
      advance(now.write_seconds, times);
      now = finish(times, now);
    }
    return now;
  }

  const LoopParts& parts_;
  Progress& progress_;
  Boundary boundary_;
  std::int64_t last_;
  NumericsGuard guard_;
  std::optional<Profiler> profiler_;
  bool save_due_ = false;
  bool counted_ = false;  // a checkpoint of this start does
  // Of the newest save, in seconds:
  double stalled_ = 0;
  double saving_ = 0;  // in which it was worked on
};

}  // namespace

Ended run_loop(const LoopParts& parts, Progress& progress) { return Loop(parts, progress).run(); }

}  // namespace caravan::train
