// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_save.hpp"

#include <new>

#include "comm/agreement.hpp"
#include "core/background_thread.hpp"
#include "core/streamed_copy.hpp"
#include "core/text.hpp"

namespace caravan::checkpoint {
namespace {

std::size_t bytes_of(const Piece& piece) {
  return static_cast<std::size_t>(piece.part.count()) * core::size_of(piece.dtype);
}

// Where the next piece begins: at a cache line, which also aligns every element.
std::size_t room_of(const Piece& piece) {
  constexpr std::size_t line = 64;
  return (bytes_of(piece) + line - 1) / line * line;
}

std::size_t room_of(const std::vector<Piece>& pieces) {
  std::size_t bytes = 0;
  for (const Piece& piece : pieces) bytes += room_of(piece);
  return bytes;
}

}  // namespace

void BackgroundSave::reserve(const std::vector<Piece>& pieces) {
  const std::size_t bytes = room_of(pieces);
  if (!in_background_ || bytes <= buffer_.size()) return;
  try {
    std::vector<std::byte>().swap(buffer_);  // the old one is gone before the new one comes
    buffer_.resize(bytes);                   // writes zeros, and so touches every page
  } catch (const std::bad_alloc&) {
    core::bad_input("there is no memory for the copy that a checkpoint is written from, ", core::format_bytes(bytes),
                    " on this rank; set checkpoint.asynchronous = false");
  }
}

std::vector<Piece> BackgroundSave::copied(const std::vector<Piece>& pieces) {
  reserve(pieces);
  std::vector<Piece> copies;
  std::byte* place = buffer_.data();
  for (const Piece& piece : pieces) {
    if (piece.part.count() == 0) continue;
    if (piece.memory) {
      core::streamed_copy(place, piece.memory, bytes_of(piece));
    } else {
      piece.fill(0, piece.part.extent.at(0), place);
    }
    copies.push_back(make_piece(piece.name, piece.shape, piece.dtype, piece.part, place));
    place += room_of(piece);
  }
  return copies;
}

template <typename Work>
void BackgroundSave::start(const char* thread, const core::AwakeStopwatch& since, Work work) {
  std::packaged_task<ShardReport(const std::stop_token&)> task(
      [this, since, work = std::move(work)](const std::stop_token& stop) {
        ShardReport report = work(stop);
        seconds_ = since.seconds();
        return report;
      });
  report_ = task.get_future();
  moved();
  if (!in_background_) return task({});
  writer_ = core::start_thread(thread, std::move(task));
}

void BackgroundSave::settle(comm::Failure failure) {
  seconds_ = 0;
  std::promise<ShardReport> promise;
  promise.set_value({{}, std::move(failure)});
  report_ = promise.get_future();
}

void BackgroundSave::begin(SaveRequest request, const std::vector<Piece>& pieces) {
  CARAVAN_CHECK(!under_way(), "a save is begun while one is under way");
  const core::AwakeStopwatch since;
  prepare(world_, request);
  request_ = std::move(request);
  stage_ = Stage::shards;
  const comm::Failure failure = comm::attempt([&] {
    start("caravan-save", since, [this, own = in_background_ ? copied(pieces) : pieces](const std::stop_token& stop) {
      return write_shard(request_.folder, world_.rank(), own, [&] {
        moved();
        if (stop.stop_requested()) throw core::Error(core::ExitCode::internal, "the save was given up");
      });
    });
  });
  if (failure.code != core::ExitCode::done) settle(failure);
}

bool BackgroundSave::written(std::chrono::milliseconds most) const {
  return report_.wait_for(most) == std::future_status::ready;
}

double BackgroundSave::silent() const { return core::awake_seconds() - moved_; }

void BackgroundSave::moved() { moved_ = core::awake_seconds(); }

bool BackgroundSave::advance() {
  CARAVAN_CHECK(under_way(), "no save is under way");
  const ShardReport report = report_.get();
  if (writer_.joinable()) writer_.join();
  const Stage ended = std::exchange(stage_, Stage::none);  // what throws ends the save
  if (ended == Stage::commit) {
    agree_on_commit(world_, report.failure);
    return true;
  }
  start_commit(report);
  stage_ = Stage::commit;
  return !in_background_ && advance();
}

void BackgroundSave::start_commit(const ShardReport& report) {
  const core::AwakeStopwatch since;
  std::vector<std::string> reports = gather_reports(world_, request_, report);
  if (world_.rank() != 0) return settle({});
  const comm::Failure failure = comm::attempt([&] {
    start("caravan-commit", since, [this, reports = std::move(reports)](const std::stop_token&) {
      const auto went_on = [this] { moved(); };
      comm::Failure failed = hooks_.before ? comm::attempt(hooks_.before) : comm::Failure{};
      if (failed.code == core::ExitCode::done) failed = commit_shards(request_, world_.size(), reports, went_on);
      if (failed.code == core::ExitCode::done && hooks_.after) hooks_.after(went_on);
      return ShardReport{{}, std::move(failed)};
    });
  });
  if (failure.code != core::ExitCode::done) settle(failure);
}

}  // namespace caravan::checkpoint
