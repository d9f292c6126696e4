// SPDX-License-Identifier: Apache-2.0
#include "watch/watchdog.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/awake_clock.hpp"
#include "core/background_thread.hpp"
#include "core/error.hpp"
#include "core/host_name.hpp"
#include "core/leave.hpp"

namespace caravan::watch {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

// Before any thread reads them.
std::shared_ptr<NodePages> published(NodePages pages) {
  auto shared = std::make_shared<NodePages>(std::move(pages));
  activity().publish_to(&shared->own());
  return shared;
}

}  // namespace

Timing::Timing(double deadline_seconds)
    : deadline(deadline_seconds),
      tick(std::min(1.0, deadline / 10)),
      pace(std::clamp(deadline / 40, tick, 15.0)),
      again(deadline / 4),
      still_on_node(std::max(2.0, 5 * tick)),
      still_elsewhere(2 * pace + still_on_node),
      stack(std::clamp(deadline, 2.0, 5.0) + pace),
      patience(2 * again + 2 * still_elsewhere + 4 * stack + 10) {}

Watchdog::Watchdog(const std::filesystem::path& folder, double deadline, NodePages pages)
    : timing_(deadline),
      pages_(published(std::move(pages))),
      host_(core::host_name()),
      folder_(folder),
      exceptions_(std::uncaught_exceptions()),
      files_(folder, pages_, host_, {timing_.tick, timing_.pace, timing_.stack}) {
  activity().set_patience(timing_.patience);
  // The first question may come before, the second one only after the state has been written.
  for (int i = 0; i < 2; ++i) {
    files_.ask<bool>([](const WatchFolder&) { return true; }, [] { return false; });
  }
  watcher_ = core::start_attendant("caravan-watch", [this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  watcher_.join();
  const bool unwinding = std::uncaught_exceptions() > exceptions_;
  if (!files_.end(unwinding ? timing_.stack : std::max(timing_.deadline, timing_.stack))) {
    const std::string text = core::concat("the file system of ", folder_.string(), " does not answer");
    if (!unwinding) core::leave_at_once(core::ExitCode::peer_lost, text);
    core::leave_within(timing_.stack, core::ExitCode::peer_lost, activity().failure().value_or(text));
  }
  activity().set_patience(0);
  activity().clear_verdict();
  activity().publish_to(nullptr);
}

bool Watchdog::ended_after(double seconds) {
  std::unique_lock lock(mutex_);
  return wake_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return ending_; });
}

std::optional<double> Watchdog::passed_in(double seconds) {
  const core::AwakeStopwatch stopwatch;
  if (ended_after(seconds)) return std::nullopt;
  return stopwatch.seconds();
}

RankState Watchdog::own() const { return state_of(*pages_->of(pages_->rank()), host_); }

void Watchdog::watch() {
  Page& page = pages_->own();
  std::optional<double> passed = 0;
  do {
    page.beat.fetch_add(1, std::memory_order_relaxed);
    page.beat_time.store(nanoseconds_since_1970(), std::memory_order_relaxed);
    const RankState now = own();
    look(now, *passed);
    show_stack_to_who_asks();
    if (error_is_on_its_way(*passed)) continue;
    if (waited_ > look_at_) look_for_late(now);
    if (quiet_ > timing_.deadline + (pages_->rank() > 0 ? 2 * timing_.tick : 0)) end_if_nobody_waits();
  } while ((passed = passed_in(timing_.tick)));
}

void Watchdog::look(const RankState& now, double passed) {
  std::uint64_t signs = signs_;
  // Looking costs more the more threads there are, and says nothing about a rank that has just done something.
  if (!now.waiting && now.seconds > timing_.deadline / 4) signs = main_.signs_of_work(core::workers());
  // A state shorter than the time between two looks is a new one.
  const bool same = now.waiting == before_.waiting && now.seconds >= before_.seconds && now.number == before_.number &&
                    now.group == before_.group && now.phase == before_.phase;
  waited_ = now.waiting && same ? waited_ + passed : 0;
  if (waited_ == 0) {
    // The ranks look one after the other: often the first one's report is the end. Rank 0's is in the run's log, too.
    look_at_ = timing_.deadline + timing_.again * pages_->rank() / pages_->ranks();
    yielded_ = 0;
    warned_at_.reset();
    if (std::exchange(put_off_, false)) activity().set_patience(timing_.patience);
  }
  quiet_ = !now.waiting && same && signs == signs_ ? quiet_ + passed : 0;
  pages_->own().quiet.store(quiet_, std::memory_order_relaxed);
  signs_ = signs;
  before_ = now;
}

void Watchdog::show_stack_to_who_asks() {
  bool asked = false;
  for (int rank = 0; rank < pages_->ranks() && !asked; ++rank) {
    const Page* page = pages_->of(rank);
    asked = page != nullptr && page->asks.load(std::memory_order_relaxed) == pages_->rank();
  }
  const bool alarm = files_.alarm();
  stack_given_ = stack_given_ && alarm;
  constexpr std::int64_t second = 1'000'000'000;
  const bool again = asked && steady_nanoseconds() - stack_shown_ > second;
  if ((!again && (!alarm || stack_given_)) || own().waiting) return;
  const std::string text = main_.stack(timing_.stack / 2, [this] { pages_->own().beat.fetch_add(1); });
  signs_ = main_.signs_of_work(core::workers());  // to look at its stack makes the thread fault memory in
  stack_shown_ = steady_nanoseconds();
  pages_->own().stack.write(text, stack_shown_);
  if (alarm) files_.give_stack(text);
  stack_given_ = alarm;
}

bool Watchdog::error_is_on_its_way(double passed) {
  const std::optional<std::string> failure = activity().failure();
  stuck_ = failure ? stuck_ + passed : 0;
  if (stuck_ > timing_.stack) core::leave_at_once(core::ExitCode::peer_lost, *failure);
  return failure.has_value();
}

void Watchdog::look_for_late(const RankState& waiting) {
  look_at_ = waited_ + timing_.again;
  const auto still_waits = [&] {
    const RankState now = own();
    return now.waiting && now.group == waiting.group && now.number == waiting.number && !activity().failure();
  };
  std::vector<RankState> states = observe(still_waits);
  if (states.empty()) return;
  Finding finding = judge(states);
  if (finding.kind == Finding::Kind::late && finding.ranks.empty()) {
    put_off_ = true;
    activity().set_patience(timing_.patience + own().seconds);  // at least what the collective itself has counted
    warn_who_is_waited_for(states);
    return;
  }
  if (!leads()) return;
  // What a file says is older than what a page does; while there is an alarm, all ranks write theirs often.
  if (!elsewhere_.empty()) states = observe(still_waits);
  if (!states.empty()) finding = judge(states);
  const bool excused = finding.kind == Finding::Kind::late && finding.ranks.empty();
  if (!states.empty() && !excused) {
    std::string text = describe(finding, states) + note();
    if (finding.kind == Finding::Kind::late) text += stacks(states, finding.ranks);
    if (still_waits() && !ended_after(0)) {
      activity().give_verdict({text, waiting.group.id, waiting.group.color, waiting.number});
      if (!void_verdict(still_waits, text)) return;
    }
  }
  withdraw();
}

bool Watchdog::void_verdict(const std::function<bool()>& still_waits, const std::string& text) {
  std::optional<double> passed;
  for (double waited = 0; waited < timing_.stack; waited += *passed) {
    passed = passed_in(timing_.tick / 2);
    pages_->own().beat.fetch_add(1, std::memory_order_relaxed);
    // Nor does it wait any more when another error is on its way: then nobody throws the verdict.
    if (!still_waits() && activity().withdraw_verdict()) return true;
    if (!passed) return false;
  }
  if (!activity().failure() && !still_waits()) return false;
  core::leave_at_once(core::ExitCode::peer_lost, text);  // the main thread hangs, perhaps inside of MPI
}

void Watchdog::end_if_nobody_waits() {
  const std::vector<RankState> states = observe([&] { return !own().waiting && own().seconds >= before_.seconds; });
  const bool all_hang = !states.empty() && std::all_of(states.begin(), states.end(), [&](const RankState& one) {
    return !one.known || !one.moves || (!one.waiting && one.quiet > timing_.deadline);
  });
  if (!all_hang || ended_after(0) || !leads()) return;  // who waits will say so
  const std::string stack = main_.stack(timing_.stack / 2, [this] { pages_->own().beat.fetch_add(1); });
  core::leave_at_once(core::ExitCode::peer_lost,
                      core::concat(describe_alone(states), note(), "\nstack of rank ", pages_->rank(), ":\n", stack));
}

}  // namespace caravan::watch
