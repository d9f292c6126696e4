// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "checkpoint/piece.hpp"
#include "comm/agreement.hpp"
#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace caravan::checkpoint {

/// What a save is called and says besides tensors; the same on all ranks (only rank 0's goes into the manifest).
struct SaveRequest {
  std::filesystem::path folder;  // RUN/checkpoints/step-00000120: see step_folder()
  std::int64_t step = 0;
  nlohmann::json state = nlohmann::json::object();  // the trainer's: data position, seeds, configuration, …
  int tp = 1;
  int ep = 1;
  std::optional<StoreReference> store{};  // where the frozen tensors are, if not among the pieces
  std::string program{};                  // the program's version and build facts
  std::vector<std::string> tensors{};     // that the pieces of all ranks must have; others may be there, too
};

/// Collective. Writes the pieces of all ranks, one shard per rank that has any, and commits them: when it returns, the
/// checkpoint is durable; when it throws, it throws on all ranks (the first failing rank's message; exit 74 when the
/// storage is full) and the folder holds no manifest, so nobody takes it for a checkpoint. Pieces that overlap, do
/// not cover their tensor or leave one out that request.tensors names are exit 70; a value that is not finite is exit
/// 16; a folder that already holds a committed checkpoint, or in which rank 0 does not find the others' shards, is exit
/// 76: by then a run has written, and exit 2 says that nothing was.
void save(comm::Communicator& world, const SaveRequest& request, const std::vector<Piece>& pieces);

// The parts of save(), for a caller that lets another thread write.

/// Collective. Makes the folder and removes what an unfinished save left in it.
void prepare(comm::Communicator& world, const SaveRequest& request);

/// What one rank wrote, or why it failed.
struct ShardReport {
  std::string shard;  // JSON for the manifest; empty for a rank without pieces
  comm::Failure failure;
};

/// Writes this rank's shard durably. Talks to no other rank and does not throw: a failure is in the report, so that
/// commit() can tell all ranks. A failed shard is removed. between_blocks is called before each block (16 MiB) and
/// before the last fsync; what it throws ends the writing.
ShardReport write_shard(const std::filesystem::path& folder, int rank, const std::vector<Piece>& pieces,
                        const std::function<void()>& between_blocks = {});

/// Collective. Makes the shards of all ranks a checkpoint.
void commit(comm::Communicator& world, const SaveRequest& request, const ShardReport& report);

// The three parts of commit(), likewise.

/// Collective. When every rank has its shard, rank 0 gets what all have said of theirs and the others nothing; when one
/// has failed, all throw as save() does, and no shard stays.
std::vector<std::string> gather_reports(comm::Communicator& world, const SaveRequest& request,
                                        const ShardReport& report);

/// On rank 0, which talks to no other meanwhile. Checks coverage, writes master.h5 and then, last, the manifest: from
/// then on the checkpoint counts. Calls `moved` after each. Does not throw.
comm::Failure commit_shards(const SaveRequest& request, int world, const std::vector<std::string>& reports,
                            const std::function<void()>& moved = {});

/// Collective. Throws on all ranks, as save() does, when rank 0 could not commit.
void agree_on_commit(comm::Communicator& world, const comm::Failure& failure);

/// The reference to put into the checkpoints that are saved beside or after `store`: relative when both folders have
/// the same parent, so that a run folder can be moved. Throws (exit 2) when `store` is not a checkpoint.
StoreReference store_reference(const std::filesystem::path& store, const std::filesystem::path& checkpoint);

}  // namespace caravan::checkpoint
