// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "watch/shared_text.hpp"

namespace caravan::watch {

/// A group of ranks as all its members know it.
struct Membership {
  std::int32_t id = -1;    // which communicator of a rank, in the order that all ranks make them in; -1: none
  std::int32_t color = 0;  // ranks of equal id and color are one group
  std::array<char, 8> name{};
  std::int64_t begun = 0;  // collectives of this group that this rank has begun
};

/// What the main thread does, and the last collective that it waited for. Copied word by word.
struct Doing {
  std::int32_t waiting = 0;  // in that collective, or 0: it has come out of it
  std::int32_t slot = -1;    // of the collective's group; -1: none yet
  std::int64_t number = 0;   // of the collective in its group
  std::int64_t since = 0;  // when waiting last changed; nanoseconds of the steady clock, which a node's processes share
  std::int64_t step = 0;   // of the training, from 1; 0: none yet
  std::array<char, 24> phase{};
  std::array<char, 64> operation{};
};

inline constexpr std::size_t most_groups = 12;

struct Published {
  Doing doing;
  std::array<Membership, most_groups> groups;
};

/// Published, readable by other processes while it changes: what is written in one go is read in one piece.
struct Page {
  std::atomic<std::uint64_t> version{0};  // odd while `doing` is being written
  // By the watchdog's thread:
  std::atomic<std::uint64_t> beat{0};      // grows as long as the process runs
  std::atomic<std::int64_t> beat_time{0};  // nanoseconds since 1970
  std::atomic<double> quiet{0};            // seconds without any sign of progress of the main thread
  std::atomic<std::int32_t> asks{-1};      // the rank of this node whose stack this one wants to see; -1: none
  std::atomic<std::int32_t> reports{0};    // not 0: this rank is about to say that another one hangs
  SharedText stack;                        // of the main thread, for the ranks that ask
  std::array<std::atomic<std::uint64_t>, sizeof(Published) / 8> words{};

  Published read() const;
};

/// Why a collective does not end.
struct Verdict {
  std::string text;
  std::int32_t id = -1, color = 0;  // of the group
  std::int64_t number = 0;          // of the collective in it
};

/// What this process publishes: by its main thread, with a few stores a collective and without any system call.
class Activity {
 public:
  using Clock = std::chrono::steady_clock;

  Activity();

  /// A slot for a group; -1 when all are taken: such a group is not watched.
  int add_group(const std::string& name, int id, int color);
  void remove_group(int slot);

  void begin(int slot, std::int64_t number);
  void wait(int slot, std::int64_t number, const char* operation, Clock::time_point now);
  void go_on(Clock::time_point now);

  void enter_step(std::int64_t step);
  /// What the main thread works at, "backward" say; cut off after 23 characters.
  void enter_phase(const char* phase);

  /// From now on into this page, until another one is named; null: into one of its own. Changes are lost on nobody: the
  /// page begins with what the former one held.
  void publish_to(Page* page);

  /// Found by the watchdog, for the main thread to throw where it waits. It stands once it has been taken: then every
  /// later collective throws it, too, until it is cleared.
  void give_verdict(Verdict verdict);
  void clear_verdict();
  /// Takes it back, because the collective has ended; false when it has been taken, or there is none.
  bool withdraw_verdict();
  /// Whether there is any: cheap.
  bool has_verdict() const { return has_verdict_.load(std::memory_order_acquire); }
  /// On the main thread: the text, when it is about the collective that this thread waits for, or stands. As fail():
  /// who takes it throws it.
  std::optional<std::string> take_verdict();
  /// How much longer than its deadline a collective waits for the watchdog's verdict, in seconds; 0 without one.
  double patience() const { return patience_.load(std::memory_order_relaxed); }
  void set_patience(double seconds) { patience_.store(seconds, std::memory_order_relaxed); }

  /// The main thread is about to throw this, which ends the process: the watchdog sees to it that it does, whatever the
  /// stack's unwinding waits for. Taken back by the next collective.
  void fail(const std::string& text);
  std::optional<std::string> failure() const;

 private:
  void put(const void* member, std::size_t bytes);
  void put_doing();

  Page own_;
  Page* page_ = &own_;
  Published now_;
  std::atomic<double> patience_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> has_verdict_{false};
  mutable std::mutex mutex_;  // of what follows
  std::string failure_;
  std::optional<Verdict> verdict_;
  bool taken_ = false;
};

/// Of this process.
Activity& activity();

}  // namespace caravan::watch
