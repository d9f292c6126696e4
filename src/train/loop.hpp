// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>

#include "train/metrics.hpp"
#include "train/numerics_guard.hpp"
#include "train/progress.hpp"

namespace caravan::train {

enum class Ended { finished, stopped };

/// What the loop works with. Hooks are called on every rank at the same step.
struct LoopParts {
  const parallel::Context& context;
  Trainer& trainer;
  data::Batches& batches;
  Metrics* metrics = nullptr;   // rank 0's
  std::int64_t save_every = 0;  // steps; 0: only at the end and when stopped
  std::function<void(const Progress&)> save;
  std::int64_t evaluate_every = 0;  // steps; 0: never
  std::function<double()> held_out_loss;
  std::function<void()> at_step_boundary;
  NumericsLimits numerics{};
  bool profile = false;  // measure phases and collectives of every step
};

/// Steps until the schedule's end, or until a rank was asked to stop (core::StopRequest); saves when due and before it
/// returns. `progress` is moved on.
Ended run_loop(const LoopParts& parts, Progress& progress);

}  // namespace caravan::train
