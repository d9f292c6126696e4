// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "checkpoint/background_save.hpp"
#include "checkpoint/retention.hpp"
#include "commands/session.hpp"
#include "run/run_lock.hpp"
#include "train/saver.hpp"
#include "train/trainer.hpp"

namespace caravan::commands {

/// Which files a run uses.
struct RunFiles {
  nlohmann::json data;      // facts_of the packed file that it is trained on
  nlohmann::json held_out;  // what its held-out losses are of; null: it has none
};

/// The checkpoints of a training run. When one counts, those that need not stay are deleted, unless it is doubtful.
class RunSaver : public train::Saver {
 public:
  /// Collective. Allocates the copy that checkpoints are written from, if they are written in the background. store:
  /// where the frozen tensors are. lock: rank 0's; nothing counts and nothing is deleted once it is another run's.
  RunSaver(const Session& session, const layout::Grid& grid, train::ShardedAdamW& optimizer,
           checkpoint::StoreReference store, RunFiles files, run::RunLock* lock);

  /// What a save may take, as long as none was measured: what the rank with the most to write takes at 100 MB/s.
  double expected_seconds() const { return expected_seconds_; }

  bool in_background() const override { return session_.config.checkpoint.asynchronous; }
  void begin(const train::Progress& progress, std::optional<double> held_out_loss, bool doubtful) override;
  train::Writing look(std::chrono::milliseconds most) override;
  std::string writing() const override { return folder_.string(); }
  std::optional<std::string> advance() override;

 private:
  std::vector<checkpoint::Piece> pieces();

  const Session& session_;
  const layout::Grid& grid_;
  train::ShardedAdamW& optimizer_;
  checkpoint::StoreReference store_;
  RunFiles files_;
  checkpoint::Retention retention_;
  std::filesystem::path folder_;  // of the save under way
  bool doubtful_ = false;         // that save
  double expected_seconds_ = 0;
  checkpoint::BackgroundSave save_;
};

}  // namespace caravan::commands
