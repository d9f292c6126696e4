// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "data/batches.hpp"
#include "model/decoder.hpp"
#include "plan/traffic.hpp"
#include "train/phases.hpp"
#include "train/schedule.hpp"
#include "train/sharded_adamw.hpp"

namespace caravan::train {

/// What one step was and did; the same on every rank, but for the time.
struct StepReport {
  std::int64_t step = 0;
  double loss = 0;          // ce_loss + balance_loss
  double ce_loss = 0;       // mean over the targets of the global batch
  double balance_loss = 0;  // alpha when routing is even
  double lr = 0;
  double grad_norm = 0;  // before clipping
  std::int64_t tokens = 0;
  std::int64_t targets = 0;
  double busiest_expert = 0;            // largest share of a layer's assignments, times E, mean over layers; 1 = even
  double idlest_expert = 0;             // smallest share likewise
  std::int64_t assignments = 0;         // tokens times k, over all layers
  std::optional<std::int64_t> dropped;  // of them, by train.capacity; none where it is 0
  bool skipped = false;                 // loss or gradient was not finite: nothing was updated
  PhaseSeconds phases{};                // of this rank
};

/// The numbers of one global batch that a rank cannot see in its own part of it.
struct BatchTotals {
  std::int64_t tokens = 0;   // T, without pads
  std::int64_t targets = 0;  // N
};

/// Runs optimizer steps: forward and backward over the micro-steps, reduction, clipping, update.
class Trainer {
 public:
  Trainer(const parallel::Context& context, const model::Decoder& decoder, parallel::Parameters& parameters,
          const Options& options, double lora_dropout, const Schedule& schedule);

  /// Step number `step`, from 1, on this data-parallel rank's micro-batches; every rank has the same number of them,
  /// some perhaps empty. skipped: earlier steps that updated nothing, which AdamW does not count. When the loss or the
  /// gradient is not finite, on all ranks alike, parameters and optimizer stay as they are. Collective.
  StepReport step(std::int64_t step, std::span<const data::TokenBatch> micro_batches, const BatchTotals& totals,
                  std::int64_t skipped = 0);

  /// What the collectives of such a step send from this rank, computed, not measured: of a step that updates, and with
  /// even routing where that decides (plan::depends_on_routing). Not collective.
  plan::Traffic traffic(std::span<const data::TokenBatch> micro_batches) const;

  ShardedAdamW& optimizer() { return optimizer_; }
  /// What is done for a step before step() is called counts into it.
  PhaseClock& clock() { return clock_; }
  const Schedule& schedule() const { return schedule_; }

 private:
  /// What micro-steps add up, fp64, where the model computes.
  struct Sums {
    at::Tensor ce;           // of this DP rank's targets
    at::Tensor balance;      // of the rows that this rank sees
    at::Tensor dropped;      // assignments
    at::Tensor assignments;  // [layers, E]; undefined in a dense model
  };
  /// The same in the host's memory.
  struct Totals {
    double ce = 0, balance = 0;
    std::int64_t dropped = 0;
    at::Tensor assignments;
    double squared_gradients = 0;  // of what this rank owns
  };
  /// Forward and backward of one micro-batch, the step's last or an earlier one; gradients are added to the
  /// parameters' buffers.
  void accumulate(const data::TokenBatch& batch, const BatchTotals& totals, bool last, Sums& sums);
  /// One copy to the host, the only time that a step waits for its numbers; then the sums over the ranks. Collective.
  Totals totals_of(const Sums& sums) const;
  void describe_experts(const Totals& totals, StepReport& report) const;
  bool batch_scope() const { return options_.balance_scope == model::BalanceScope::batch; }

  const parallel::Context& context_;
  const model::Decoder& decoder_;
  parallel::Parameters& parameters_;
  Options options_;
  model::DropoutRates dropout_;
  Schedule schedule_;
  ShardedAdamW optimizer_;
  PhaseClock clock_;
};

}  // namespace caravan::train
