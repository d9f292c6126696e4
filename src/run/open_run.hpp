// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "comm/communicator.hpp"
#include "run/made_folders.hpp"
#include "run/run_folder.hpp"
#include "run/run_lock.hpp"

namespace caravan::run {

/// The job's hold on its run folder. Whoever has it may read, choose and delete checkpoints there. As long as nothing
/// else was written, dropping it leaves no trace: a start that is refused makes no run folder.
class OpenRun {
 public:
  /// Makes the folder if need be; rank 0 takes its lock. Collective. Throws AgreedError (exit 2) when another job holds
  /// it, or when a rank does not see the folder that rank 0 sees.
  OpenRun(comm::Communicator& world, RunFolder run_folder);

  /// From here on the log goes to RUN/log.txt, too. On every rank.
  void begin_log() const;

  /// Null on all ranks but 0.
  RunLock* lock() { return lock_ ? &*lock_ : nullptr; }

 private:
  RunFolder folder_;
  std::optional<MadeFolders> folders_;  // rank 0's, like the lock, which is dropped before them
  std::optional<RunLock> lock_;
};

}  // namespace caravan::run
