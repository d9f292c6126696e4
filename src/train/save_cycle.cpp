// SPDX-License-Identifier: Apache-2.0
#include "train/save_cycle.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <thread>
#include <vector>

#include "comm/agreement.hpp"
#include "core/host_name.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"
#include "watch/activity.hpp"

namespace caravan::train {
namespace {

using namespace std::chrono_literals;

// What a rank says to the others, each a number of which the largest counts.
namespace fact {
constexpr std::size_t signal = 0, late = 1, too_late = 2, save_due = 3, unwritten = 4, write_microseconds = 5, hung = 6;
constexpr std::size_t all = 7;
}  // namespace fact

std::string text_of(double seconds) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f s", seconds);
  return text.data();
}

}  // namespace

void SaveCycle::agree(double ahead, bool saves) {
  Deadline& deadline = settings_.deadline;
  const Writing writing = under_way() ? saver_.look(0ms) : Writing{};
  std::array<std::int64_t, fact::all> facts{};
  facts[fact::signal] = core::StopRequest::signal();
  facts[fact::unwritten] = under_way() && !writing.done;
  if (world_.rank() == 0) {
    if (facts[fact::unwritten] != 0) deadline.saving(since_stage_.seconds());
    const double now = unix_seconds();
    facts[fact::save_due] = settings_.seconds > 0 && since_begin_.seconds() >= settings_.seconds;
    facts[fact::late] = !deadline.fits(ahead, under_way() || saves || facts[fact::save_due] != 0, now);
    facts[fact::too_late] = !deadline.fits_save(now);
  }
  if (writing.done) facts[fact::write_microseconds] = static_cast<std::int64_t>(writing.seconds * 1e6);
  facts[fact::hung] = settings_.patience > 0 && facts[fact::unwritten] != 0 && writing.silent > settings_.patience;
  const bool own_hung = facts[fact::hung] != 0, own_unwritten = facts[fact::unwritten] != 0;
  world_.all_reduce("agree on stopping", facts.data(), fact::all, core::DType::i64, comm::Reduce::max).wait();
  if (facts[fact::hung] != 0) end_over_hung_writers(own_hung, own_unwritten);
  // Rank 0 learns of a slow peer only through this reduction, so it counts in the next decision.
  if (facts[fact::unwritten] != 0) deadline.saving(since_stage_.seconds());
  signal_ = std::max(signal_, facts[fact::signal]);
  late_ = late_ || facts[fact::late] != 0;
  agreed_ = {.too_late = facts[fact::too_late] != 0,
             .save_due = facts[fact::save_due] != 0,
             .written = facts[fact::unwritten] == 0,
             .write_seconds = static_cast<double>(facts[fact::write_microseconds]) * 1e-6};
}

void SaveCycle::end_over_hung_writers(bool hung, bool unwritten) {
  const std::string mine =
      hung ? core::concat("rank ", world_.rank(), " on ", core::host_name(), " (", saver_.writing(), ")")
           : std::string();
  std::vector<std::string> names = world_.all_gather_text("name who does not write", mine);
  std::erase(names, "");
  const std::string message = core::concat("a save has not gone on for ", settings_.patience,
                                           " s (watchdog.seconds): the storage gives no answer to ", core::join(names),
                                           "; the checkpoints before it count");
  // Rank 0 says it for all, be its own writer hung or not. One that has only not been silent for as long may hang, too.
  if (unwritten && world_.rank() == 0) core::leave_at_once(core::ExitCode::peer_lost, message);
  if (unwritten) std::this_thread::sleep_for(2s);
  if (unwritten) core::leave_at_once(core::ExitCode::peer_lost, {});
  throw comm::AgreedError(core::ExitCode::peer_lost, message);
}

void SaveCycle::require_time_for_a_step() {
  if (!agree_to_stop()) return;
  if (signal_ != 0) {
    throw comm::AgreedError(core::ExitCode::internal, core::StopRequest::message(static_cast<int>(signal_)));
  }
  throw comm::AgreedError(core::ExitCode::internal,
                          "the time limit is too short for start + one step: before the job's end there is no time "
                          "for a save, which is expected to take " +
                              text_of(settings_.deadline.save()) + ", and checkpoint.margin");
}

bool SaveCycle::agree_to_stop() {
  agree(0);
  return stops();
}

std::string SaveCycle::why_it_stops() const {
  return signal_ != 0 ? core::concat("signal ", signal_) : std::string("the job's time limit, which is near,");
}

SaveTimes SaveCycle::after_step(const EndedStep& step) {
  times_ = {};
  due_ = due_ || (settings_.every > 0 && step.progress.step % settings_.every == 0);
  // In a row of skipped steps the weights may be what is wrong: the next step that updates them is saved instead.
  agree(settings_.deadline.longest_step(), due_ && !step.skipped);
  due_ = due_ || agreed_.save_due;
  if (under_way() && agreed_.written) advance();
  if (step.last || stops() || (due_ && !step.skipped)) {
    finish();
    if (!counted_ || step.last || !agreed_.too_late) {
      begin(step);
    } else {
      core::log_warning("there is no time left for another save; the newest is of an earlier step");
    }
  }
  if (under_way() && (step.last || stops() || !saver_.in_background())) {
    wait();
    state_ = State::waiting;
  }
  return times_;
}

void SaveCycle::after_line() {
  if (state_ != State::waiting) return;
  advance();
  finish();
}

void SaveCycle::finish_before_error() {
  try {
    finish();
  } catch (const comm::AgreedError& error) {
    core::log_warning(error.what());
  }
}

void SaveCycle::begin(const EndedStep& step) {
  due_ = false;
  stalled_ = worked_ = 0;
  since_begin_.restart();
  since_stage_.restart();
  stall([&] { saver_.begin(step.progress, step.held_out_loss, step.skipped); });
  state_ = State::writing;
}

void SaveCycle::wait() {
  stall([&] {
    do {
      settings_.alive();
      saver_.look(1s);
      agree(0);
    } while (!agreed_.written);
  });
  times_.durable = agreed_.write_seconds;
}

void SaveCycle::advance() {
  std::optional<std::string> saved;
  const double before = stalled_;
  stall([&] {
    if (metrics_) metrics_->sync();  // a step's line is to be durable before its checkpoint counts
    state_ = State::none;            // if it fails
    saved = saver_.advance();
  });
  if (!saved) state_ = State::writing;
  since_stage_.restart();
  worked_ += agreed_.write_seconds + stalled_ - before;
  if (!saved) return;
  times_.durable = worked_;
  counted_ = true;
  settings_.deadline.saved(worked_);
  core::log("saved ", *saved, " (stalled ", text_of(stalled_), ", durable after ", text_of(worked_), ")");
}

void SaveCycle::finish() {
  while (under_way()) {
    wait();
    advance();
  }
}

template <typename Work>
void SaveCycle::stall(const Work& work) {
  watch::activity().enter_phase("save");
  const core::AwakeStopwatch stopwatch;
  work();
  const double seconds = stopwatch.seconds();
  stalled_ += seconds;
  times_.stalled = times_.stalled.value_or(0) + seconds;
}

}  // namespace caravan::train
