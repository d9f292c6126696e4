// SPDX-License-Identifier: Apache-2.0
#include "watch/late_ranks.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "core/error.hpp"
#include "core/rank_list.hpp"
#include "core/text.hpp"

namespace caravan::watch {
namespace {

constexpr std::size_t most_lines = 8;

const char* const advice = "Start the job again: it resumes from the newest checkpoint";

std::string sentence(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text + ". ";
}

bool waits(const RankState& state) { return state.known && state.moves && state.waiting; }

std::vector<int> waited_for(const std::vector<RankState>& states, int by) {
  const RankState& waiter = states[static_cast<std::size_t>(by)];
  std::vector<int> absent, idle;
  for (int rank = 0; rank < static_cast<int>(states.size()); ++rank) {
    const RankState& other = states[static_cast<std::size_t>(rank)];
    const auto begun = other.begun(waiter.group);
    if (rank == by || !begun) continue;
    if (*begun < waiter.number || !other.moves) absent.push_back(rank);
    if (!other.waiting) idle.push_back(rank);
  }
  return absent.empty() ? idle : absent;
}

std::string name_of(const RankState& state, int rank) {
  return core::concat("rank ", rank, state.known ? " (host " + state.host + ")" : std::string());
}

std::string collective(const RankState& state) {
  return core::concat("\"", state.operation, "\" (number ", state.number, " of group ", state.group.name, ")");
}

std::string moment(const RankState& state) {
  if (state.step == 0) return "before the first step" + (state.phase.empty() ? "" : ", phase " + state.phase);
  return core::concat("in step ", state.step, state.phase.empty() ? "" : ", phase " + state.phase);
}

std::string working(const RankState& state) {
  return moment(state) + (state.number > 0 ? ", after " + collective(state) : std::string());
}

std::string late_line(const RankState& state, int rank) {
  if (!state.moves) {
    return core::concat(name_of(state, rank), " does not move any more since ", core::format_duration(state.still),
                        state.waiting ? ": it waited " + moment(state) + ", in " + collective(state)
                                      : ": it computed " + working(state),
                        "; its process was stopped, or its machine is gone");
  }
  return core::concat(name_of(state, rank), " is late: it computes since ", core::format_duration(state.seconds), " ",
                      working(state));
}

/// Those that wait, by where: "ranks 0 to 2 wait since 600 s in …".
std::vector<std::string> waiting_lines(const std::vector<RankState>& states) {
  using Where = std::tuple<std::string, std::int64_t, std::string>;
  std::map<Where, std::vector<int>> all;
  for (int rank = 0; rank < static_cast<int>(states.size()); ++rank) {
    const RankState& state = states[static_cast<std::size_t>(rank)];
    if (waits(state)) all[{state.group.name, state.number, state.operation}].push_back(rank);
  }
  std::vector<std::string> lines;
  for (const auto& [where, ranks] : all) {
    if (lines.size() == most_lines) {
      lines.push_back(core::concat("others wait in ", all.size() - most_lines, " more collectives"));
      break;
    }
    const RankState& first = states[static_cast<std::size_t>(ranks.front())];
    lines.push_back(core::concat(core::describe_ranks(ranks), ranks.size() == 1 ? " waits" : " wait", " since ",
                                 core::format_duration(first.seconds), " ", moment(first), ", in ", collective(first)));
  }
  return lines;
}

std::string heading(const Finding& finding) {
  const std::string ranks = core::describe_ranks(finding.ranks);
  switch (finding.kind) {
    case Finding::Kind::late: return {};
    case Finding::Kind::order:
      return "no rank is late, but " + ranks +
             " wait for each other in different collectives: the ranks do not call them in the same order, a defect of "
             "this program";
    case Finding::Kind::transfer:
      return "no rank is late: " + ranks + " have all come to a collective that does not end; look at the network";
    case Finding::Kind::unknown: break;
  }
  return finding.ranks.empty() ? "which rank is late is not known"
                               : "no rank that is known of is late, and nothing is known of " + ranks;
}

/// Where one comes from those that ask, along who waits for whom.
struct Walk {
  std::set<int> seen, late;
  std::vector<int> at_the_end;  // who waits, but for nobody
};

Walk walk(const std::vector<RankState>& states, std::vector<int> next) {
  Walk done{{next.begin(), next.end()}, {}, {}};
  while (!next.empty()) {
    const int rank = next.back();
    next.pop_back();
    if (!waits(states[static_cast<std::size_t>(rank)])) {
      done.late.insert(rank);
      continue;
    }
    const std::vector<int> others = waited_for(states, rank);
    if (others.empty()) done.at_the_end.push_back(rank);
    for (const int other : others) {
      if (done.seen.insert(other).second) next.push_back(other);
    }
  }
  return done;
}

}  // namespace

Finding find_late(const std::vector<RankState>& states, int asking) {
  const auto [seen, late, at_the_end] = walk(states, {asking});
  if (!late.empty()) return {Finding::Kind::late, {late.begin(), late.end()}};

  Finding finding;
  for (std::size_t rank = 0; rank < states.size(); ++rank) {
    if (!states[rank].known) finding.ranks.push_back(static_cast<int>(rank));
  }
  if (!finding.ranks.empty()) return finding;
  if (at_the_end.empty()) return {Finding::Kind::order, {seen.begin(), seen.end()}};

  // All members have begun it, and some may have gone on. Under one number they may still mean different collectives.
  const RankState& stuck = states[static_cast<std::size_t>(at_the_end.front())];
  bool same = true;
  for (std::size_t rank = 0; rank < states.size(); ++rank) {
    const RankState& state = states[rank];
    if (!state.begun(stuck.group)) continue;
    finding.ranks.push_back(static_cast<int>(rank));
    const bool here = state.group == stuck.group && state.number == stuck.number;
    same = same && (!here || state.operation == stuck.operation);
  }
  finding.kind = same ? Finding::Kind::transfer : Finding::Kind::order;
  return finding;
}

std::vector<int> late_for_anybody(const std::vector<RankState>& states) {
  std::vector<int> waiting;
  for (int rank = 0; rank < static_cast<int>(states.size()); ++rank) {
    if (waits(states[static_cast<std::size_t>(rank)])) waiting.push_back(rank);
  }
  const Walk all = walk(states, waiting);
  return {all.late.begin(), all.late.end()};
}

std::vector<int> hung(const std::vector<int>& ranks, const std::vector<RankState>& states, double longest_quiet) {
  std::vector<int> found;
  std::copy_if(ranks.begin(), ranks.end(), std::back_inserter(found), [&](int rank) {
    const RankState& state = states[static_cast<std::size_t>(rank)];
    return !state.moves || state.quiet > longest_quiet;
  });
  return found;
}

namespace {

std::vector<std::string> late_lines(const std::vector<int>& ranks, const std::vector<RankState>& states) {
  std::vector<std::string> lines;
  // Who does not move first: the others may only be late for its sake.
  for (const bool moves : {false, true}) {
    for (const int rank : ranks) {
      const RankState& state = states[static_cast<std::size_t>(rank)];
      if (state.moves == moves) lines.push_back(late_line(state, rank));
    }
  }
  if (lines.size() > most_lines) {
    const std::size_t more = lines.size() - most_lines;
    lines.resize(most_lines);
    lines.push_back(core::concat(more, " more ranks are late"));
  }
  return lines;
}

}  // namespace

std::string describe(const Finding& finding, const std::vector<RankState>& states) {
  std::vector<std::string> lines;
  if (finding.kind == Finding::Kind::late) {
    lines = late_lines(finding.ranks, states);
  } else {
    lines.push_back(heading(finding));
  }
  for (std::string& line : waiting_lines(states)) lines.push_back(std::move(line));
  return core::concat(sentence(lines), advice);
}

std::string describe_alone(const std::vector<RankState>& states) {
  std::vector<std::string> lines;
  for (int rank = 0; rank < static_cast<int>(states.size()); ++rank) {
    const RankState& state = states[static_cast<std::size_t>(rank)];
    if (!state.known || lines.size() == most_lines) continue;
    lines.push_back(state.moves ? core::concat(name_of(state, rank), " shows no progress since ",
                                               core::format_duration(state.quiet), " ", working(state))
                                : late_line(state, rank));
  }
  if (states.size() > lines.size()) lines.push_back(core::concat(states.size() - lines.size(), " more ranks"));
  return core::concat("no rank waits for another, and none goes on: ", sentence(lines), advice);
}

bool is_to_warn(const std::vector<RankState>& states, int asking, double deadline) {
  const std::vector<int> late = find_late(states, asking).ranks;
  // Who has ceased to work not long ago is not known to hang yet, nor to work.
  if (!hung(late, states, deadline / 4).empty()) return false;
  for (int rank = 0; rank < asking; ++rank) {
    // What is known of another rank may be a little older. Who has waited for so long will say so before long.
    const RankState& state = states[static_cast<std::size_t>(rank)];
    if (waits(state) && state.seconds >= deadline / 2 && find_late(states, rank).ranks == late) return false;
  }
  return true;
}

std::string describe_work(const std::vector<RankState>& states, int asking) {
  const std::vector<int> late = find_late(states, asking).ranks;
  std::vector<std::string> lines = late_lines(late, states);
  for (std::string& line : waiting_lines(states)) lines.push_back(std::move(line));
  return sentence(lines) +
         (late.size() == 1 ? "It is waited for, since it reads, writes, faults memory in or begins something else"
                           : "They are waited for, since they read, write, fault memory in or begin something else");
}

}  // namespace caravan::watch
