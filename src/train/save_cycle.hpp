// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "core/awake_clock.hpp"
#include "train/deadline.hpp"
#include "train/metrics.hpp"
#include "train/saver.hpp"

namespace caravan::train {

/// When to save, and who may hold a save up.
struct SaveSettings {
  std::int64_t every = 0;         // steps; 0: only at the end and when stopped
  double seconds = 0;             // and so long after the newest save began; 0: not for that
  double patience = 0;            // seconds that a rank's writing may show no progress; 0: for ever
  Deadline deadline{};            // rank 0's decides
  std::function<void()> alive{};  // about once a second while a save is waited for
};

/// A step that has been computed.
struct EndedStep {
  const Progress& progress;
  bool last = false;     // of the schedule
  bool skipped = false;  // it updated nothing
  std::optional<double> held_out_loss{};
};

/// The saves of a run and its stop, which the ranks agree on at step boundaries with one collective. At most one save
/// is under way. Each stage of it ends at the first boundary at which all ranks have written. One that is due meanwhile
/// waits for it, and so do the last step and a stop, whose save is then waited for. Rank 0's clock decides.
class SaveCycle {
 public:
  /// metrics: rank 0's, whose lines are made durable before a checkpoint counts.
  SaveCycle(comm::Communicator& world, Saver& saver, SaveSettings settings, Metrics* metrics)
      : world_(world), saver_(saver), settings_(std::move(settings)), metrics_(metrics) {}

  // All of these are collective but stops(), why_it_stops() and stepped().

  /// Before the first step: throws AgreedError (exit 70) when a rank was asked to stop, or when there is not time for a
  /// save and the margin.
  void require_time_for_a_step();
  /// Whether a rank was asked to stop, or there is just time for a last save. Once they have agreed so, it stays.
  bool agree_to_stop();
  bool stops() const { return signal_ != 0 || late_; }
  /// "signal 10"; once stops().
  std::string why_it_stops() const;
  /// How long a step took, without the time for which the process was stopped.
  void stepped(double seconds) { settings_.deadline.stepped(seconds); }

  /// After each step: agrees, moves the save under way on, and begins one if it is time. Returns what training waited
  /// for. Throws what saves throw; AgreedError (exit 76), naming ranks, when a rank's writing does not go on: there the
  /// process ends here, since a thread that never returns from the system would hold up every other way out.
  SaveTimes after_step(const EndedStep& step);
  /// That any rank got, which stops the loop; 0: none did.
  std::int64_t signal() const { return signal_; }
  /// When the step's line has been written, without which its checkpoint must not count: what after_step() waited for
  /// comes to its end.
  void after_line();
  /// An error of all ranks leaves as much behind as if training had waited for the save that is under way.
  void finish_before_error();

 private:
  /// What all ranks know after they have asked each other.
  struct Agreement {
    bool too_late = false;     // there is no time for another save any more
    bool save_due = false;     // the newest save began long enough ago
    bool written = false;      // no rank has anything left to write for now
    double write_seconds = 0;  // of the slowest, once written
  };
  /// ahead: seconds that the next piece of work may take. saves: a save begins before it.
  void agree(double ahead, bool saves = false);
  [[noreturn]] void end_over_hung_writers(bool hung, bool unwritten);

  bool under_way() const { return state_ != State::none; }
  void begin(const EndedStep& step);
  /// In slices, so that no rank waits in a collective for the files of another, and signals are seen.
  void wait();
  void advance();
  /// Until no save is under way.
  void finish();
  /// Books what training waits for.
  template <typename Work>
  void stall(const Work& work);

  comm::Communicator& world_;
  Saver& saver_;
  SaveSettings settings_;
  Metrics* metrics_;

  std::int64_t signal_ = 0;  // that any rank got; once agreed on, it stays
  bool late_ = false;        // there was time for a last save only; likewise
  Agreement agreed_;         // the newest

  enum class State {
    none,     // no save is under way
    writing,  // one has begun, and it neither counts nor has failed
    waiting   // likewise, and training waits for it at this boundary
  };
  State state_ = State::none;
  bool due_ = false;      // a save; it may have to wait
  bool counted_ = false;  // a checkpoint of this start does

  // Of the newest save:
  core::AwakeStopwatch since_begin_;
  core::AwakeStopwatch since_stage_;
  double stalled_ = 0;  // seconds that training waited
  double worked_ = 0;   // seconds in which it was worked on
  SaveTimes times_;     // of the newest step
};

}  // namespace caravan::train
