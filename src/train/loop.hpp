// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>

#include "train/deadline.hpp"
#include "train/metrics.hpp"
#include "train/numerics_guard.hpp"
#include "train/progress.hpp"
#include "train/saver.hpp"

namespace caravan::train {

enum class Ended { finished, stopped };

/// How the loop came to its end, on all ranks alike.
struct LoopEnd {
  Ended how = Ended::finished;
  std::int64_t signal = 0;  // that stopped it; 0: none did, but perhaps the job's time limit
};

/// What the loop works with. Hooks are called on every rank at the same step.
struct LoopParts {
  const parallel::Context& context;
  Trainer& trainer;
  data::Batches& batches;
  Saver& saver;
  Metrics* metrics = nullptr;       // rank 0's
  std::int64_t save_every = 0;      // steps; 0: only at the end and when stopped
  double save_seconds = 0;          // and so long after the newest save began; 0: not for that
  std::int64_t evaluate_every = 0;  // steps; 0: never
  /// Asks `stop` now and then, a collective with the same answer on all ranks; after a yes it gives up: no loss.
  std::function<std::optional<double>(const std::function<bool()>& stop)> held_out_loss;
  std::function<void()> alive;  // at step boundaries, and about once a second while the loop waits for a save
  Deadline deadline{};          // rank 0's decides
  double patience = 0;          // seconds that the writing of a save may show no progress; 0: for ever
  NumericsLimits numerics{};
  bool profile = false;             // measure phases and collectives of every step
  SlowRanks* slow_ranks = nullptr;  // looks after each step
};

/// Computes steps until the schedule's end, until a rank was asked to stop (core::StopRequest), or until there is just
/// time for a last save before the deadline, and saves as SaveCycle decides. On return no save is in progress. The
/// newest checkpoint is of the last step, except when the deadline left no time to begin another save. `progress` is
/// moved on. Throws AgreedError (exit 70) when asked to stop, or out of time, before the first step, and what steps and
/// saves throw; a save that is in progress when all ranks throw together is finished before.
LoopEnd run_loop(const LoopParts& parts, Progress& progress);

}  // namespace caravan::train
