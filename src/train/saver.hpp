// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "train/progress.hpp"

namespace caravan::train {

/// How the loop saves: begun at one step boundary, and advanced at later ones until the save counts. All but written(),
/// silent(), writing() and seconds() are collective.
class Saver {
 public:
  Saver() = default;
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;
  virtual ~Saver() = default;

  /// Whether training may go on between these because other threads write.
  virtual bool in_background() const = 0;
  /// None is under way. When it returns, the state that is saved may change. held_out_loss: of this step. doubtful: its
  /// loss or gradient was not finite, so that no older save may be given up for this one.
  virtual void begin(const Progress& progress, std::optional<double> held_out_loss, bool doubtful) = 0;
  /// Begun, and it neither counts nor has failed.
  virtual bool under_way() const = 0;
  /// Whether this rank has nothing left to write for now; waits for it at most so long. It may have failed: advance()
  /// says so.
  virtual bool written(std::chrono::milliseconds most) = 0;
  /// Seconds since this rank's writing last showed progress. For a save under way that is not written.
  virtual double silent() const = 0;
  /// What this rank is writing, for messages.
  virtual std::string writing() const = 0;
  /// From begin() or the newest advance() until then.
  virtual double seconds() const = 0;
  /// Once written on all ranks: the next thing is begun to be written, or the save counts, and what the log calls it is
  /// returned. Or all ranks throw.
  virtual std::optional<std::string> advance() = 0;
};

}  // namespace caravan::train
