// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <mutex>
#include <string>

namespace caravan::core {

/// Writes lines to a descriptor that may be a pipe that nobody empties or a terminal that was stopped: nobody who has
/// a line to write waits longer than he says for who reads it. While there is something to write, a thread of this
/// object writes it, so that it must not be destroyed. Lines come out whole and in the order of the calls.
class LineWriter {
 public:
  using Seconds = double;
  static constexpr std::size_t most_bytes = std::size_t{1} << 18;  // that wait to be written; further lines are lost

  /// stream: the descriptor's; what was printed to it comes out before the next line. note: the line that is written in
  /// the place of so many lost ones, as soon as anything can be written again.
  LineWriter(std::FILE* stream, std::function<std::string(std::int64_t lost)> note)
      : stream_(stream), note_(std::move(note)) {}
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  enum class Wait { unless_stuck, always };
  /// text: with the end of the line. Returns when it is written, but after `patience` at most, and, unless it is to
  /// wait always, at once while one that was waited for so long has not been written.
  void write(std::string text, Seconds patience, Wait when = Wait::unless_stuck);
  /// Returns when all is written, but after `patience` at most.
  void flush(Seconds patience);

 private:
  void put(std::string text);
  void start(std::unique_lock<std::mutex>& lock);
  void run();
  /// Whether the condition came to hold in time.
  template <typename Condition>
  bool wait(std::unique_lock<std::mutex>& lock, Seconds patience, Condition condition);

  std::FILE* stream_;
  std::function<std::string(std::int64_t)> note_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> waiting_;  // the first one is being written
  std::size_t bytes_ = 0;            // of them
  std::int64_t put_ = 0;             // lines, so far
  std::int64_t written_ = 0;         // likewise
  std::int64_t lost_ = 0;            // behind the last one that waits
  bool writing_ = false;             // the thread runs
  bool stuck_ = false;               // a line was not written in time, and the thread has not caught up since
};

/// Writes all of it with write(2), however long that takes, unless there is an error.
void write_all(int descriptor, const std::string& text);

}  // namespace caravan::core
