// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "train/progress.hpp"

namespace caravan::train {

/// How far this rank has come with its part of a stage of a save. Seconds.
struct Writing {
  bool done = false;   // nothing is left to write; it may have failed, which advance() says
  double seconds = 0;  // once done: since begin() or the newest advance()
  double silent = 0;   // until then: since it last showed progress
};

/// Writes checkpoints in stages, each begun at a step boundary. SaveCycle decides when. All but look() and writing()
/// are collective.
class Saver {
 public:
  Saver() = default;
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;
  virtual ~Saver() = default;

  /// Whether training may go on between the stages because other threads write.
  virtual bool in_background() const = 0;
  /// The first stage. When it returns, the state that is saved may change. held_out_loss: of this step. doubtful: its
  /// loss or gradient was not finite, so that no older save may be given up for this one.
  virtual void begin(const Progress& progress, std::optional<double> held_out_loss, bool doubtful) = 0;
  /// Of the stage under way; waits for its end at most so long.
  virtual Writing look(std::chrono::milliseconds most) = 0;
  /// What this rank is writing, for messages.
  virtual std::string writing() const = 0;
  /// Once all ranks are done with a stage: begins the next one, or the checkpoint counts and the save is over; then it
  /// returns what the log calls it. Or all ranks throw, and the save is over, too.
  virtual std::optional<std::string> advance() = 0;
};

}  // namespace caravan::train
