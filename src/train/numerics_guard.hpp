// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/batches.hpp"
#include "train/trainer.hpp"

namespace caravan::train {

/// When a step's numbers are worth a word, and when they end the run.
struct NumericsLimits {
  std::int64_t most_skipped = 5;  // steps in a row without an update that the run survives
  double spike = 2;               // times the usual loss; 0: spikes are not looked for
};

/// Looks at each step's loss, which is the same on every rank.
class NumericsGuard {
 public:
  explicit NumericsGuard(const NumericsLimits& limits) : limits_(limits) {}

  /// What was irregular about the step, for metrics.jsonl, with the numbers of its sequences in the packed file:
  /// {"what": "skipped" or "spike", "usual_loss": mean of the last 20 steps, "sequences": […]}; nothing as a rule. Logs
  /// it. Throws AgreedError (exit 16) when more than `most_skipped` steps in a row were skipped.
  std::optional<nlohmann::json> look_at(const StepReport& report, const data::GlobalBatch& batch);

 private:
  std::optional<nlohmann::json> irregular(const char* what, const data::GlobalBatch& batch) const;
  std::optional<double> usual_loss() const;

  NumericsLimits limits_;
  std::deque<double> losses_;  // of the last steps that were updates
  std::int64_t skipped_in_a_row_ = 0;
};

}  // namespace caravan::train
