// SPDX-License-Identifier: Apache-2.0
#include "watch/watchdog.hpp"

#include <unistd.h>

#include <algorithm>

#include "core/background_thread.hpp"
#include "core/error.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"

namespace caravan::watch {
namespace {

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::int64_t nanoseconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Timing::Timing(double deadline_seconds)
    : deadline(deadline_seconds),
      tick(std::min(1.0, deadline / 10)),
      pace(std::clamp(deadline / 40, tick, 15.0)),
      still_on_node(std::max(2.0, 5 * tick)),
      still_elsewhere(2 * pace + still_on_node),
      stack(5 + pace),
      patience(still_elsewhere + stack + 10) {}

Watchdog::Watchdog(const std::filesystem::path& folder, double deadline, NodePages pages)
    : timing_(deadline), pages_(std::move(pages)), host_(core::host_name()), folder_(folder, pages_.rank()) {
  activity().publish_to(&pages_.own());
  activity().set_patience(timing_.patience);
  folder_.write_state(own());
  watcher_ = core::start_attendant("caravan-watch", [this] { watch(); });
  try {
    files_ = core::start_attendant("caravan-files", [this] { keep_files(); });
  } catch (...) {
    end();  // or the first one would be waited for for ever
    throw;
  }
}

void Watchdog::end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
}

Watchdog::~Watchdog() {
  end();
  watcher_.join();
  files_.join();
  activity().set_patience(0);
  activity().set_verdict(nullptr);
  activity().publish_to(nullptr);
  folder_.clean_up();
}

bool Watchdog::ended_after(double seconds) {
  std::unique_lock lock(mutex_);
  return wake_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return ending_; });
}

RankState Watchdog::own() const { return state_of(*pages_.of(pages_.rank()), host_); }

RankState Watchdog::state(int rank) const {
  const Page* page = pages_.of(rank);
  return page != nullptr ? state_of(*page, host_) : folder_.read_state(rank);
}

std::optional<double> Watchdog::passed_in(double seconds) {
  const auto start = Clock::now();
  if (ended_after(seconds)) return std::nullopt;
  return std::min(seconds_between(start, Clock::now()), 2 * seconds);
}

void Watchdog::look(const RankState& now, double passed) {
  std::uint64_t signs = signs_;
  // Looking costs more the more threads there are, and says nothing about a rank that has just done something.
  if (!now.waiting && now.seconds > timing_.deadline / 4) {
    signs = MainThread::signs_of_work(core::attendants());
  }
  // A state shorter than the time between two looks is a new one.
  const bool same = now.waiting == before_.waiting && now.seconds >= before_.seconds && now.number == before_.number &&
                    now.group == before_.group && now.phase == before_.phase;
  waited_ = now.waiting && same ? waited_ + passed : 0;
  quiet_ = !now.waiting && same && signs == signs_ ? quiet_ + passed : 0;
  pages_.own().quiet.store(quiet_, std::memory_order_relaxed);
  signs_ = signs;
  before_ = now;
}

void Watchdog::watch() {
  // Rank 0 first: its errors are in the run's log too.
  const double allowed = timing_.deadline + (pages_.rank() > 0 ? 2 * timing_.tick : 0);
  Page& page = pages_.own();
  std::optional<double> passed = 0;
  do {
    page.beat.fetch_add(1, std::memory_order_relaxed);
    page.beat_time.store(nanoseconds_since_1970(), std::memory_order_relaxed);
    const RankState now = own();
    look(now, *passed);
    if (waited_ > allowed) wait_for_verdict(now);
    if (quiet_ > allowed) end_if_nobody_waits();
  } while ((passed = passed_in(timing_.tick)));
}

void Watchdog::keep_files() {
  Clock::time_point written{};
  bool stack_is_there = false;
  do {
    const bool alarm = folder_.alarm();
    if (alarm || seconds_between(written, Clock::now()) >= timing_.pace) {
      folder_.write_state(own());
      written = Clock::now();
    }
    if (alarm && !stack_is_there && !own().waiting) {
      folder_.write_stack(main_.stack(timing_.stack / 2));
      stack_is_there = true;
    } else if (!alarm && stack_is_there) {
      folder_.remove_stack();
      stack_is_there = false;
    }
    files_answered_.store(Clock::now().time_since_epoch().count());
  } while (!ended_after(timing_.tick));
}

std::vector<RankState> Watchdog::observe(const std::function<bool()>& valid) {
  const auto ranks = static_cast<std::size_t>(pages_.ranks());
  std::vector<RankState> states(ranks);
  std::vector<int> unseen;
  for (int rank = 0; rank < pages_.ranks(); ++rank) {
    states[static_cast<std::size_t>(rank)] = state(rank);
    if (rank != pages_.rank()) unseen.push_back(rank);
  }
  double looked = 0;
  while (!unseen.empty()) {
    const auto passed = passed_in(timing_.tick / 2);
    if (!passed || !valid()) return {};
    looked += *passed;
    pages_.own().beat.fetch_add(1, std::memory_order_relaxed);
    std::erase_if(unseen, [&](int rank) {
      const RankState now = state(rank);
      RankState& before = states[static_cast<std::size_t>(rank)];
      if (!before.known) before = now;
      return now.known && now.beat != before.beat;
    });
    const bool all_had_time = std::all_of(unseen.begin(), unseen.end(), [&](int rank) {
      return looked > (pages_.of(rank) != nullptr ? timing_.still_on_node : timing_.still_elsewhere);
    });
    if (all_had_time) break;
  }
  for (int rank = 0; rank < pages_.ranks(); ++rank) {
    RankState& last = states[static_cast<std::size_t>(rank)];
    if (RankState now = state(rank); now.known) last = std::move(now);
  }
  for (const int rank : unseen) {
    RankState& last = states[static_cast<std::size_t>(rank)];
    last.moves = !last.known;
    last.still = std::max(looked, static_cast<double>(nanoseconds_since_1970() - last.beat_time) * 1e-9);
  }
  return valid() ? states : std::vector<RankState>();
}

std::string Watchdog::stacks(const std::vector<RankState>& states, const std::vector<int>& ranks) {
  constexpr std::size_t most = 4;  // they tend to be alike
  std::string text;
  for (std::size_t i = 0; i < std::min(most, ranks.size()); ++i) {
    const int rank = ranks[i];
    const RankState& state = states[static_cast<std::size_t>(rank)];
    std::optional<std::string> stack;
    if (!state.known) continue;
    if (!state.moves) {
      text += core::concat("\nno stack of rank ", rank, ": its process does not run");
      continue;
    }
    const auto start = Clock::now();
    while (!(stack = folder_.read_stack(rank)) && seconds_between(start, Clock::now()) < timing_.stack) {
      if (ended_after(timing_.tick / 2)) break;
    }
    text += core::concat("\nstack of rank ", rank, ":\n", stack.value_or("no stack: it did not come in time"));
  }
  return text;
}

void Watchdog::wait_for_verdict(const RankState& late) {
  const auto still_waits = [&] {
    const RankState now = own();
    return now.waiting && now.group == late.group && now.number == late.number;
  };
  if (!still_waits() || !folder_.raise_alarm()) return;
  if (const std::vector<RankState> states = observe(still_waits); !states.empty()) {
    const Finding finding = find_late(states, pages_.rank());
    std::string text = describe(finding, states);
    if (finding.kind == Finding::Kind::late) text += stacks(states, finding.ranks);
    if (still_waits() && !ended_after(0)) {
      verdict_ = std::move(text);
      activity().set_verdict(&verdict_);
      if (ended_after(timing_.stack) || !still_waits()) return;
      end_process(verdict_, true);  // the main thread hangs inside of MPI
    }
  }
  folder_.withdraw_alarm();
}

void Watchdog::end_if_nobody_waits() {
  const Clock::time_point answered{Clock::duration(files_answered_.load())};
  const bool files = seconds_between(answered, Clock::now()) < timing_.stack;
  std::vector<RankState> states;
  if (files) {
    states = observe([&] { return !own().waiting && own().seconds >= before_.seconds; });
  } else {
    // Not a word to a file system that hangs, perhaps the reason for all this: only what the node's memory says.
    states.resize(static_cast<std::size_t>(pages_.ranks()));
    for (int rank = 0; rank < pages_.ranks(); ++rank) {
      if (pages_.of(rank) != nullptr) states[static_cast<std::size_t>(rank)] = state(rank);
    }
  }
  const bool all_hang = !states.empty() && std::all_of(states.begin(), states.end(), [&](const RankState& one) {
    return !one.known || !one.moves || (!one.waiting && one.quiet > timing_.deadline);
  });
  if (!all_hang || ended_after(0)) return;  // who waits will say so
  if (files && !folder_.raise_alarm()) return;
  end_process(
      core::concat(describe_alone(states), "\nstack of rank ", pages_.rank(), ":\n", main_.stack(timing_.stack / 2)),
      files);
}

void Watchdog::end_process(std::string text, bool files_answer) {
  if (files_answer) {
    core::log_error(text);
  } else {
    text = "error: " + text + "\n(The run folder's file system does not answer.)\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  }
  ::_exit(static_cast<int>(core::ExitCode::peer_lost));
}

}  // namespace caravan::watch
