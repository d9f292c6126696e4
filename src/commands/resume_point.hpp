// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "checkpoint/retention.hpp"
#include "commands/start.hpp"

namespace caravan::commands {

/// Chooses the checkpoint that a start of train goes on from, and remembers those that it found damaged. The run folder
/// is locked meanwhile: nobody else deletes or writes checkpoints.
class ResumePoint {
 public:
  explicit ResumePoint(const Session& session) : session_(session) {}

  /// Opens the run's newest good checkpoint; else what checkpoint.resume names, or step 0. Collective. Throws (exit 2)
  /// when there is none, when resume = never and the run has trained before, when resume names one of this run's own,
  /// or when damage leads to one whose frozen tensors are not those of the damaged ones.
  Start open();

  /// The same, when `damaged`, which is one of this run's own, proved to be so for this reason: one of an earlier step.
  /// Collective.
  Start open_before(const Start& damaged, const std::string& reason);

  /// Renames the checkpoints that were found damaged, and no others; says so, and if training begins again for that.
  /// Once nothing can refuse the start any more. By rank 0.
  void set_aside_damaged() const;

 private:
  std::filesystem::path choose();
  Start open_chosen();

  const Session& session_;
  // Rank 0's.
  std::vector<checkpoint::PassedOver> damaged_;  // newest first
  std::filesystem::path chosen_;
  bool begins_again_ = false;  // the choice is none of this run's own trained ones
};

}  // namespace caravan::commands
