// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "checkpoint/save.hpp"

namespace caravan::checkpoint {

/// A save in two strokes, for a caller that goes on between them: begin() takes a copy of the pieces, which a thread of
/// this object writes; commit() makes the checkpoint count. The thread never calls MPI. What is not committed when this
/// object goes is given up: its writer stops at its next block (16 MiB), and the folder is an unfinished save.
class BackgroundSave {
 public:
  /// in_background = false: begin() itself writes, without a copy; the rest is the same.
  BackgroundSave(comm::Communicator& world, bool in_background) : world_(world), in_background_(in_background) {}
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Allocates the memory of the copy and touches it, so that the first save is as fast as the others, and later ones
  /// need no more unless their pieces are larger. Throws (exit 2) when there is not that much.
  void reserve(const std::vector<Piece>& pieces);

  /// Collective. None is under way. Prepares the folder (and throws, as prepare() does), then copies: when this
  /// returns, the pieces' memory may change. A rank that fails from here on tells the others in commit().
  void begin(SaveRequest request, const std::vector<Piece>& pieces);

  /// Begun and not yet committed; the same on all ranks.
  bool under_way() const { return request_.has_value(); }

  /// Whether this rank has written its shard durably, or failed to; waits for it at most so long. For a save under way.
  bool written(std::chrono::milliseconds most) const;
  /// From begin() until then, in seconds.
  double seconds() const { return seconds_; }

  /// Collective, once written() on all ranks. As commit() of save.hpp: the checkpoint counts, or all ranks throw (exit
  /// 74 when a storage is full). Afterwards none is under way.
  void commit();

 private:
  std::vector<Piece> copied(const std::vector<Piece>& pieces);

  comm::Communicator& world_;
  bool in_background_;
  std::optional<SaveRequest> request_;
  std::future<ShardReport> report_;
  double seconds_ = 0;             // by the writer, before the report is there
  std::vector<std::byte> buffer_;  // only grows
  std::jthread writer_;            // the last member: it is stopped and joined before what it uses goes
};

}  // namespace caravan::checkpoint
