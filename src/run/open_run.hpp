// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "comm/communicator.hpp"
#include "run/made_folders.hpp"
#include "run/run_folder.hpp"
#include "run/run_lock.hpp"
#include "run/starts.hpp"

namespace caravan::run {

/// The job's hold on its run folder. Whoever has it may read, choose and delete checkpoints there. As long as nothing
/// else was written, dropping it leaves no trace: a start that is refused makes no run folder.
class OpenRun {
 public:
  /// Makes the folder if need be; rank 0 takes its lock. Collective. Throws AgreedError (exit 2) when another job holds
  /// it, or when a rank does not see the folder that rank 0 sees.
  OpenRun(comm::Communicator& world, RunFolder run_folder);

  const RunFolder& folder() const { return folder_; }

  /// From here on the log goes to RUN/log.txt, too, and rank 0 records the start in RUN/starts.jsonl. On every rank,
  /// once the start is not refused any more. nodes: that the ranks run on.
  void begin_log(int nodes);

  /// How this start ended, for RUN/starts.jsonl; nothing unless begin_log() was called and the folder is still ours.
  /// step: the last that was computed, if one was. On any rank; rank 0 writes.
  void ended(core::ExitCode code, const std::string& why, std::optional<std::int64_t> step = {});

  /// Null on all ranks but 0.
  RunLock* lock() { return lock_ ? &*lock_ : nullptr; }

 private:
  comm::Communicator& world_;
  RunFolder folder_;
  std::int64_t began_ = 0;
  std::optional<MadeFolders> folders_;  // rank 0's, like the lock, which is dropped before them
  std::optional<RunLock> lock_;
  std::optional<StartLog> start_;
};

}  // namespace caravan::run
