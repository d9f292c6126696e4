// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

#include "io/json_lines.hpp"
#include "train/profile.hpp"
#include "train/slow_ranks.hpp"
#include "train/trainer.hpp"

namespace caravan::train {

/// What saves cost, in seconds, at the boundary after a step; none where nothing was saved.
struct SaveTimes {
  std::optional<double> stalled;  // training stood still
  std::optional<double> durable;  // from the begin of the save that was finished there until all ranks had written
};

/// What only some steps have.
struct StepExtras {
  std::optional<StepProfile> profile{};
  std::optional<nlohmann::json> irregular{};  // of NumericsGuard
  SaveTimes save{};
  std::optional<SlowRank> slowest{};
};

/// What a run says of its steps: RUN/metrics.jsonl, one io::MetricsLine a step, and a log line per interval. Made on
/// rank 0.
class Metrics {
 public:
  /// Reads what earlier starts wrote and changes nothing, so that this start may still be refused for another reason.
  /// Throws (exit 2) with file:line where a line is not one of a step. Lines that are no JSON, as a node that loses its
  /// power may leave them, are accepted where every step up to `resumed_at_most` stands before them.
  Metrics(std::filesystem::path file, std::int64_t resumed_at_most);

  /// Cuts the file behind step `resumed_at`: what comes after is computed again. Before everything below but restart().
  /// Throws (exit 2) as the constructor does, where the step is a later one than `resumed_at_most`.
  void open(std::int64_t resumed_at, std::int64_t last_step, std::int64_t log_every);

  /// How often the run was started before, as far as its metrics say.
  std::int64_t restart() const { return restart_; }
  /// Steps that were computed before but lie beyond the checkpoint.
  std::int64_t recomputed() const { return recomputed_; }
  /// The last step that the file kept; below `resumed_at`, the curve has a hole. 0: none.
  std::int64_t last_kept() const { return last_kept_; }

  /// seconds: of this step.
  void record(const StepReport& report, double seconds, std::optional<double> held_out_loss,
              const StepExtras& extras = {});

  /// Returns when every line is on the storage. Throws core::SystemError with the path.
  void sync();

 private:
  struct BrokenLine {  // that is no JSON
    std::size_t number;
    std::int64_t after_step;  // the newest one before it
  };
  void require_sound(std::int64_t step) const;
  void log_interval(const StepReport& report, double seconds, std::optional<double> held_out_loss,
                    const StepExtras& extras);

  std::filesystem::path path_;
  std::int64_t newest_ = 0;              // step
  std::optional<BrokenLine> damaged_{};  // the first
  std::int64_t restart_ = 0;
  std::int64_t recomputed_ = 0;
  std::int64_t last_kept_ = 0;
  std::int64_t last_step_ = 0;
  std::int64_t log_every_ = 1;
  std::optional<io::JsonLines> file_;
  double interval_seconds_ = 0;
  std::int64_t interval_tokens_ = 0;
  std::int64_t interval_steps_ = 0;
};

}  // namespace caravan::train
