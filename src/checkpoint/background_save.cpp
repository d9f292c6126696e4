// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_save.hpp"

#include <pthread.h>

#include <csignal>
#include <new>

#include "comm/agreement.hpp"
#include "core/text.hpp"

namespace caravan::checkpoint {
namespace {

using Clock = std::chrono::steady_clock;

// Where the next piece begins: at a cache line, which also aligns every element.
std::size_t room_of(const Piece& piece) {
  constexpr std::size_t line = 64;
  const auto bytes = static_cast<std::size_t>(piece.part.count()) * core::size_of(piece.dtype);
  return (bytes + line - 1) / line * line;
}

std::size_t room_of(const std::vector<Piece>& pieces) {
  std::size_t bytes = 0;
  for (const Piece& piece : pieces) bytes += room_of(piece);
  return bytes;
}

// A thread that takes no signals: they are for the training thread.
template <typename Work>
std::jthread start_thread(Work&& work) {
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  std::jthread thread;
  try {
    thread = std::jthread(std::forward<Work>(work));
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &former, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  return thread;
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
    piece.fill(0, piece.part.extent.at(0), place);
    copies.push_back(make_piece(piece.name, piece.shape, piece.dtype, piece.part, place));
    place += room_of(piece);
  }
  return copies;
}

void BackgroundSave::begin(SaveRequest request, const std::vector<Piece>& pieces) {
  CARAVAN_CHECK(!under_way(), "a save is begun while one is under way");
  const auto start = Clock::now();
  prepare(world_, request);
  std::promise<ShardReport> promise;
  report_ = promise.get_future();
  request_ = std::move(request);
  const auto finish = [this, start](std::promise<ShardReport>& to, ShardReport report) {
    seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
    to.set_value(std::move(report));
  };
  if (!in_background_) return finish(promise, write_shard(request_->folder, world_.rank(), pieces));
  const comm::Failure failure = comm::attempt([&] {
    writer_ = start_thread([finish, to = std::move(promise), folder = request_->folder, rank = world_.rank(),
                            own = copied(pieces)](const std::stop_token& stop) mutable {
      pthread_setname_np(pthread_self(), "caravan-save");  // for top -H, debuggers and tests
      finish(to, write_shard(folder, rank, own, stop));
    });
  });
  if (failure.code == core::ExitCode::done) return;
  std::promise<ShardReport> failed;
  report_ = failed.get_future();
  finish(failed, {.code = failure.code, .failure = failure.message});
}

bool BackgroundSave::written(std::chrono::milliseconds most) const {
  return report_.wait_for(most) == std::future_status::ready;
}

void BackgroundSave::commit() {
  CARAVAN_CHECK(under_way(), "no save is under way");
  const ShardReport report = report_.get();
  if (writer_.joinable()) writer_.join();
  const SaveRequest request = std::move(*request_);
  request_.reset();
  checkpoint::commit(world_, request, report);
}

}  // namespace caravan::checkpoint
