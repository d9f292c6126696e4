// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "commands/session.hpp"
#include "io/made_folders.hpp"
#include "io/run_lock.hpp"

namespace caravan::commands {

/// The job's hold on its run folder. Whoever has it may read, choose and delete checkpoints there. As long as nothing
/// else was written, dropping it leaves no trace: a start that is refused makes no run folder.
class OpenRun {
 public:
  /// Makes the folder if need be; rank 0 takes its lock. Collective. Throws AgreedError (exit 2) when another job holds
  /// it, or when a rank does not see the folder that rank 0 sees.
  explicit OpenRun(const Session& session);

  /// From here on the log goes to RUN/log.txt, too. On every rank.
  void begin_log() const;

  /// Null on all ranks but 0.
  io::RunLock* lock() { return lock_ ? &*lock_ : nullptr; }

 private:
  const Session& session_;
  std::optional<io::MadeFolders> folders_;  // rank 0's, like the lock, which is dropped before them
  std::optional<io::RunLock> lock_;
};

}  // namespace caravan::commands
