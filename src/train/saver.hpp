// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "train/progress.hpp"

namespace caravan::train {

/// How the loop saves: begun at one step boundary, made to count at a later one. All but written() and seconds() are
/// collective.
class Saver {
 public:
  Saver() = default;
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;
  virtual ~Saver() = default;

  /// Whether training may go on between begin() and commit() because another thread writes.
  virtual bool in_background() const = 0;
  /// None is under way. When it returns, the state that is saved may change. held_out_loss: of this step.
  virtual void begin(const Progress& progress, std::optional<double> held_out_loss) = 0;
  /// Begun and not yet committed.
  virtual bool under_way() const = 0;
  /// Whether this rank has nothing left to write; waits for it at most so long. It may have failed: commit() says so.
  virtual bool written(std::chrono::milliseconds most) = 0;
  /// From begin() until then.
  virtual double seconds() const = 0;
  /// Once written on all ranks: the save counts, or all ranks throw. Returns what the log calls it.
  virtual std::string commit() = 0;
};

}  // namespace caravan::train
