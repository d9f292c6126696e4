// SPDX-License-Identifier: Apache-2.0
// What a watchdog finds out about the other ranks.
#include <algorithm>
#include <atomic>

#include "core/error.hpp"
#include "core/log.hpp"
#include "watch/watchdog.hpp"

namespace caravan::watch {
namespace {

std::int64_t nanoseconds(std::chrono::nanoseconds time) { return time.count(); }

}  // namespace

template <typename Answer>
std::optional<Answer> Watchdog::ask_files(std::function<Answer(const WatchFolder&)> question) {
  std::optional<Answer> answer = files_.ask(std::move(question), [this] {
    pages_->own().beat.fetch_add(1, std::memory_order_relaxed);
    return ended_after(0);
  });
  files_answer_ = answer.has_value();
  return answer;
}

void Watchdog::read_files() {
  std::vector<int> ranks;
  for (int rank = 0; rank < pages_->ranks(); ++rank) {
    if (pages_->of(rank) == nullptr) ranks.push_back(rank);
  }
  elsewhere_.clear();
  if (ranks.empty()) return;
  using States = std::map<int, RankState>;
  elsewhere_ = ask_files<States>([ranks](const WatchFolder& files) {
                 States states;
                 for (const int rank : ranks) states[rank] = files.read_state(rank);
                 return states;
               }).value_or(States());
}

RankState Watchdog::state(int rank) const {
  if (const Page* page = pages_->of(rank)) return state_of(*page, host_);
  const auto found = elsewhere_.find(rank);
  return found != elsewhere_.end() ? found->second : RankState();
}

std::vector<RankState> Watchdog::observe(const std::function<bool()>& valid) {
  read_files();
  std::vector<RankState> states;
  std::vector<int> unseen;
  for (int rank = 0; rank < pages_->ranks(); ++rank) {
    states.push_back(state(rank));
    if (rank != pages_->rank()) unseen.push_back(rank);
  }
  const double between_reads = std::max(timing_.tick / 2, timing_.pace / 8);
  double looked = 0, read = 0;
  while (!unseen.empty()) {
    const auto passed = passed_in(timing_.tick / 2);
    if (!passed || !valid()) return {};
    looked += *passed;
    pages_->own().beat.fetch_add(1, std::memory_order_relaxed);
    if (looked - read >= between_reads) {
      read_files();
      read = looked;
    }
    std::erase_if(unseen, [&](int rank) {
      const RankState now = state(rank);
      RankState& before = states[static_cast<std::size_t>(rank)];
      if (!before.known) before = now;
      return now.known && now.beat != before.beat;
    });
    const bool all_had_time = std::all_of(unseen.begin(), unseen.end(), [&](int rank) {
      return looked > (pages_->of(rank) != nullptr ? timing_.still_on_node : timing_.still_elsewhere);
    });
    if (all_had_time) break;
  }
  for (int rank = 0; rank < pages_->ranks(); ++rank) {
    RankState& last = states[static_cast<std::size_t>(rank)];
    if (RankState now = state(rank); now.known) last = std::move(now);
  }
  const auto now = nanoseconds(std::chrono::system_clock::now().time_since_epoch());
  for (const int rank : unseen) {
    RankState& last = states[static_cast<std::size_t>(rank)];
    // Where the files have ceased to answer, nothing is known any more.
    if (pages_->of(rank) == nullptr && !files_answer_) last = RankState();
    last.moves = !last.known;
    last.still = std::max(looked, static_cast<double>(now - last.beat_time) * 1e-9);
  }
  return valid() ? states : std::vector<RankState>();
}

Finding Watchdog::judge(const std::vector<RankState>& states) const {
  Finding finding = find_late(states, pages_->rank());
  if (finding.kind != Finding::Kind::late) return finding;
  finding.ranks = hung(finding.ranks, states, timing_.deadline);
  if (finding.ranks.empty()) finding.ranks = hung(late_for_anybody(states), states, timing_.deadline);
  return finding;
}

void Watchdog::warn_who_is_waited_for(const std::vector<RankState>& states) {
  if (warned_at_ && waited_ - *warned_at_ < timing_.deadline) return;
  // A line is dropped while nobody takes the former one.
  if (warning_written_.valid() && warning_written_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    return;
  if (!is_to_warn(states, pages_->rank(), timing_.deadline)) return;
  warned_at_ = waited_;
  warning_written_ = core::write_apart(core::warning_text(describe_work(states, pages_->rank())));
}

bool Watchdog::leads() {
  // The answer may come when nobody waits for it any more: then there must be no alarm without a leader.
  const auto too_late = std::make_shared<std::atomic<bool>>(false);
  const auto made = ask_files<bool>([too_late](const WatchFolder& files) {
    const bool raised = files.raise_alarm();
    if (raised && *too_late) files.withdraw_alarm();
    return raised;
  });
  if (made) return *made;
  *too_late = true;
  // Without files, the lowest rank of the node that knows.
  pages_->own().reports = 1;
  if (ended_after(timing_.tick)) return false;
  bool lowest = true;
  for (int rank = 0; rank < pages_->rank(); ++rank) {
    const Page* page = pages_->of(rank);
    lowest = lowest && (page == nullptr || page->reports == 0);
  }
  constexpr int most_yields = 2;  // the other one may not get as far as that
  return lowest || ++yielded_ > most_yields;
}

void Watchdog::withdraw() {
  pages_->own().reports = 0;
  if (!folder_.empty()) {
    ask_files<bool>([](const WatchFolder& files) {
      files.withdraw_alarm();
      return true;
    });
  }
}

std::optional<std::string> Watchdog::stack_of(int rank) {
  const Page* page = pages_->of(rank);
  const std::int64_t asked = nanoseconds(std::chrono::steady_clock::now().time_since_epoch());
  std::optional<std::string> stack;
  pages_->own().asks = rank;
  for (double waited = 0; !stack && waited < timing_.stack;) {
    const auto passed = passed_in(timing_.tick / 2);
    if (!passed) break;
    waited += *passed;
    pages_->own().beat.fetch_add(1, std::memory_order_relaxed);
    if (page != nullptr) {
      stack = page->stack.read(asked);
      continue;
    }
    using Text = std::optional<std::string>;
    stack = ask_files<Text>([rank](const WatchFolder& files) { return files.read_stack(rank); }).value_or(Text());
  }
  pages_->own().asks = -1;
  return stack;
}

std::string Watchdog::stacks(const std::vector<RankState>& states, const std::vector<int>& ranks) {
  constexpr std::size_t most = 4;  // they tend to be alike
  std::string text;
  for (std::size_t i = 0; i < std::min(most, ranks.size()); ++i) {
    const int rank = ranks[i];
    const RankState& state = states[static_cast<std::size_t>(rank)];
    if (!state.known) continue;
    if (!state.moves) {
      text += core::concat("\nno stack of rank ", rank, ": its process does not run");
      continue;
    }
    const std::string stack = stack_of(rank).value_or("no stack: it did not come in time");
    text += core::concat("\nstack of rank ", rank, ":\n", stack);
  }
  return text;
}

std::string Watchdog::note() const {
  return folder_.empty() || files_answer_ ? "" : ". The file system of " + folder_.string() + " does not answer";
}

}  // namespace caravan::watch
