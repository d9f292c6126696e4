// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/retention.hpp"
#include "comm/communicator.hpp"
#include "run/open_run.hpp"

namespace caravan::run {

/// Whether checkpoint.resume names a folder.
bool names_a_folder(const std::string& resume);

/// What the configuration says of where a run begins.
struct ResumeWish {
  std::string resume = "auto";   // checkpoint.resume: auto, never or a folder
  std::filesystem::path step_0;  // see step_0_folder()
  std::string configuration{};   // the file's name, for messages
};

/// Chooses the checkpoint that a start of train goes on from, and remembers those that it found damaged. Only who holds
/// the run folder can make one: another holder may delete checkpoints.
class ResumePoint {
 public:
  ResumePoint(comm::Communicator& world, const OpenRun& held, ResumeWish wish)
      : world_(world), checkpoints_(held.folder().checkpoints()), wish_(std::move(wish)) {}

  /// The run's newest good checkpoint; else what checkpoint.resume names, or step 0. Collective. Throws AgreedError
  /// (exit 2) when there is none, when resume = never and the run has trained before, or when resume names one of this
  /// run's own.
  std::filesystem::path choose();

  /// The same, when the checkpoint of this step, which is one of this run's own, proved to be damaged for this reason:
  /// one of an earlier step. store: its frozen tensors. Collective.
  std::filesystem::path choose_before(std::int64_t step, const std::string& reason,
                                      const checkpoint::StoreReference& store);

  /// Throws AgreedError (exit 2) when damage has led to `chosen`, whose frozen tensors, in `store`, are not those of
  /// the damaged checkpoints. Collective.
  void require_same_store(const std::filesystem::path& chosen, const std::filesystem::path& store,
                          const checkpoint::StoreReference& identity) const;

  /// Renames the checkpoints that were found damaged, and no others; says so, and if training begins again for that.
  /// Once nothing can refuse the start any more. By rank 0.
  void set_aside_damaged() const;

 private:
  void require_sound_wish() const;
  std::filesystem::path newest_or_first();

  comm::Communicator& world_;
  std::filesystem::path checkpoints_;
  ResumeWish wish_;
  // Rank 0's.
  std::vector<checkpoint::PassedOver> damaged_;  // newest first
  std::filesystem::path chosen_;
  bool begins_again_ = false;  // the choice is none of this run's own trained ones
};

}  // namespace caravan::run
