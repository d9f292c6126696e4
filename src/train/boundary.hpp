// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "core/awake_clock.hpp"
#include "train/deadline.hpp"
#include "train/saver.hpp"

namespace caravan::train {

/// What all ranks know after they have asked each other.
struct Agreement {
  std::int64_t signal = 0;   // that any rank has got so far
  bool late = false;         // there was time for a last save only
  bool too_late = false;     // there is none for another save any more
  bool save_due = false;     // the newest save began long enough ago
  bool written = false;      // no rank has anything left to write for now
  double write_seconds = 0;  // of the slowest, once written
  bool stop() const { return signal != 0 || late; }
};

/// How all ranks come to know at a step boundary whether to stop and to save: one collective. Rank 0's clock decides.
class Boundary {
 public:
  /// save_seconds: between the begins of two saves; 0: any time. patience: how long a rank's writing may show no
  /// progress, in seconds; 0: for ever.
  Boundary(comm::Communicator& world, Saver& saver, const Deadline& deadline, double save_seconds, double patience)
      : world_(world), saver_(saver), deadline_(deadline), save_seconds_(save_seconds), patience_(patience) {}

  /// Collective. ahead: seconds that the next piece of work may take. saves: a save begins before it. Throws
  /// AgreedError (exit 76), naming ranks, when the writing of a save does not go on; the process of a rank that has
  /// not written ends here, since a thread that never returns from the system would hold up every other way out.
  Agreement agree(double ahead, bool saves = false);

  /// A save, or its next stroke, has begun.
  void save_begun() { save_begun_.restart(); }
  void stroke_begun() { stroke_begun_.restart(); }

  Deadline& deadline() { return deadline_; }
  /// For what the deadline is told of: a suspension says nothing about the next step.
  core::AwakeStopwatch stopwatch() const { return core::AwakeStopwatch(clock_); }

 private:
  [[noreturn]] void end_over_hung_writers(bool hung, bool unwritten);

  comm::Communicator& world_;
  Saver& saver_;
  Deadline deadline_;
  double save_seconds_;
  double patience_;
  core::AwakeClock clock_;
  core::AwakeStopwatch save_begun_{clock_};
  core::AwakeStopwatch stroke_begun_{clock_};
  std::int64_t signal_ = 0;  // once agreed on, it ends the loop
  bool late_ = false;        // likewise
};

}  // namespace caravan::train
