// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "checkpoint/save.hpp"
#include "core/awake_clock.hpp"

namespace caravan::checkpoint {

/// A save in two stages, for a caller that goes on meanwhile. Shards: begin() takes a copy of the pieces, from which a
/// thread of this object writes this rank's. Commit: the first advance() tells rank 0 of all shards, whose thread then
/// writes master.h5 and the manifest; the second one finds that the checkpoint counts. The threads never call MPI. A
/// shard that is being written when this object goes is given up at its next block (16 MiB), and the folder is an
/// unfinished save.
class BackgroundSave {
 public:
  /// What rank 0 does around its part, where it writes.
  struct Hooks {
    std::function<void()> before{};  // the manifest is written; what it throws fails the save
    /// The checkpoint counts, and the save is not over; must not throw. To be called back whenever it gets on.
    std::function<void(const std::function<void()>&)> after{};
  };

  /// in_background = false: the caller's thread does all that, without a copy, and the first advance() is the last.
  BackgroundSave(comm::Communicator& world, bool in_background) : BackgroundSave(world, in_background, {}) {}
  BackgroundSave(comm::Communicator& world, bool in_background, Hooks hooks)
      : world_(world), in_background_(in_background), hooks_(std::move(hooks)) {}
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Allocates the memory of the copy and touches it, so that the first save is as fast as the others, and later ones
  /// need no more unless their pieces are larger. Throws (exit 2) when there is not that much.
  void reserve(const std::vector<Piece>& pieces);

  /// Collective. None is under way. Prepares the folder (and throws, as prepare() does), then copies: when this
  /// returns, the pieces' memory may change. A rank that fails from here on tells the others in advance().
  void begin(SaveRequest request, const std::vector<Piece>& pieces);

  /// Begun and not over; the same on all ranks.
  bool under_way() const { return stage_ != Stage::none; }

  /// Whether what this rank writes in this stage is durable, or failed; waits for that at most so long. For a save
  /// under way.
  bool written(std::chrono::milliseconds most) const;
  /// Seconds since this rank's writing last went on, by a block or a file, without those for which the process was
  /// stopped. For a save under way that is not written.
  double silent() const;
  /// What that took since begin() or advance(), in seconds, likewise.
  double seconds() const { return seconds_; }

  /// Collective, once written() on all ranks. Returns whether the checkpoint counts and none is under way any more. Or
  /// all ranks throw as commit() of save.hpp does (exit 74 when a storage is full); then none is under way either.
  bool advance();

 private:
  std::vector<Piece> copied(const std::vector<Piece>& pieces);
  enum class Stage { none, shards, commit };
  /// Collective. `report`: of this rank's shard.
  void start_commit(const ShardReport& report);
  /// Gives report_ what `work` returns, in the background on a thread of that name.
  template <typename Work>
  void start(const char* thread, const core::AwakeStopwatch& since, Work work);
  /// A stage without work for this rank, or one that it cannot begin.
  void settle(comm::Failure failure);
  void moved();

  comm::Communicator& world_;
  bool in_background_;
  Hooks hooks_;
  Stage stage_ = Stage::none;
  SaveRequest request_;              // of the newest save
  std::future<ShardReport> report_;  // of the stage under way
  std::atomic<double> moved_ = 0;    // when, by core::awake_seconds()
  double seconds_ = 0;               // by the writer, before the report is there
  std::vector<std::byte> buffer_;    // only grows
  std::jthread writer_;              // the last member: it is stopped and joined before what it uses goes
};

}  // namespace caravan::checkpoint
