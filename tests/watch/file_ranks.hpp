// SPDX-License-Identifier: Apache-2.0
// One true rank among others that are only files, as those of other nodes are.
#pragma once

#include <memory>

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "watch/watchdog.hpp"

namespace caravan::watch {

using Clock = std::chrono::steady_clock;

constexpr double deadline = 0.4;  // seconds
constexpr double long_enough = 60;

/// A rank of another node: its file, and a stack when there is an alarm. It computes, without a sign of progress since
/// it was made unless it `works`.
class FileRank {
 public:
  FileRank(const std::filesystem::path& folder, int rank, bool beats, bool works = false)
      : folder_(folder, rank), beats_(beats), works_(works) {
    state_.host = "n07";
    state_.step = 41;
    state_.phase = "backward";
    state_.groups = {{{0, 0, "world"}, 10}};
    folder_.write_state(state_);
    thread_ = std::thread([this] {
      while (!end_) {
        if (beats_) {
          ++state_.beat;
          if (works_) since_ = Clock::now();
          state_.quiet = std::chrono::duration<double>(Clock::now() - since_).count();
          folder_.write_state(state_);
          if (folder_.alarm()) folder_.write_stack("#0 a_function_that_hangs");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    });
  }
  ~FileRank() {
    end_ = true;
    thread_.join();
    folder_.clean_up();
  }
  /// From now on it shows no sign of progress any more.
  void hang() { works_ = false; }
  /// From now on it does.
  void work() { works_ = true; }
  FileRank(const FileRank&) = delete;
  FileRank& operator=(const FileRank&) = delete;

 private:
  WatchFolder folder_;
  bool beats_;
  std::atomic<bool> works_;
  Clock::time_point since_ = Clock::now();
  RankState state_;
  std::atomic<bool> end_{false};
  std::thread thread_;
};

/// This process as rank 0 of two, in a folder.
struct RankZero {
  test::ScratchFolder scratch;
  std::filesystem::path folder = scratch / "watchdog";
  int world = activity().add_group("world", 0, 0);

  RankZero() { std::filesystem::create_directory(folder); }
  ~RankZero() {
    activity().go_on(Clock::now());
    activity().remove_group(world);
  }
  RankZero(const RankZero&) = delete;
  RankZero& operator=(const RankZero&) = delete;

  std::unique_ptr<Watchdog> start() { return std::make_unique<Watchdog>(folder, deadline, NodePages(0, 2)); }
  void wait() const {
    activity().begin(world, 11);
    activity().wait(world, 11, "sum loss", Clock::now());
  }
};

/// Whether it comes true in time.
inline bool comes(const std::function<bool()>& condition) {
  const auto start = Clock::now();
  while (!condition()) {
    if (std::chrono::duration<double>(Clock::now() - start).count() > long_enough) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// The verdict on the collective that this process waits for, as its main thread takes it.
inline std::string comes_verdict() {
  std::optional<std::string> verdict;
  REQUIRE(comes([&] { return (verdict = activity().take_verdict()).has_value(); }));
  return *verdict;
}

inline bool has(const std::string& text, const std::string& part) {
  UNSCOPED_INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace caravan::watch
