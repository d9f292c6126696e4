// SPDX-License-Identifier: Apache-2.0
// Who is late, as a function of what the ranks published. Eight ranks on a grid of TP 2 and DP 4: tp {0,1} {2,3} {4,5}
// {6,7}, dp {0,2,4,6} {1,3,5,7}.
#include "watch/late_ranks.hpp"

#include "tests/support/catch.hpp"

namespace caravan::watch {
namespace {

using Kind = Finding::Kind;
using Ranks = std::vector<int>;

constexpr double waited = 600;

Group world() { return {0, 0, "world"}; }
Group tp_of(int rank) { return {2, rank / 2 * 2, "tp"}; }
Group dp_of(int rank) { return {3, rank % 2, "dp"}; }

/// Eight ranks that have all begun and finished ten collectives in every group, and compute.
struct Job {
  std::vector<RankState> states;

  Job() : states(8) {
    for (int rank = 0; rank < 8; ++rank) {
      RankState& state = states[static_cast<std::size_t>(rank)];
      state.known = true;
      state.host = "n0" + std::to_string(rank / 4);
      state.groups = {{world(), 10}, {tp_of(rank), 10}, {dp_of(rank), 10}};
      state.step = 41;
      state.phase = "backward";
      state.group = tp_of(rank);
      state.number = 10;
      state.operation = "gather";
      state.seconds = 700;
    }
  }
  RankState& operator[](int rank) { return states[static_cast<std::size_t>(rank)]; }

  /// The rank has begun this collective and waits for it.
  void wait(int rank, const Group& group, std::int64_t number, const std::string& operation) {
    RankState& state = (*this)[rank];
    begin(rank, group, number);
    state.waiting = true;
    state.group = group;
    state.number = number;
    state.operation = operation;
    state.seconds = waited;
  }
  void begin(int rank, const Group& group, std::int64_t number) {
    for (RankState::Begun& one : (*this)[rank].groups) {
      if (one.group == group) one.number = std::max(one.number, number);
    }
  }
  void stop(int rank, double seconds) {
    (*this)[rank].moves = false;
    (*this)[rank].still = seconds;
  }

  void expect(int asking, Kind kind, const Ranks& ranks) const {
    const Finding finding = find_late(states, asking);
    CAPTURE(asking, describe(finding, states));
    CHECK(finding.kind == kind);
    CHECK(finding.ranks == ranks);
  }
  bool says(int asking, const std::string& text) const {
    const std::string report = describe(find_late(states, asking), states);
    UNSCOPED_INFO(report);
    return report.find(text) != std::string::npos;
  }
};

}  // namespace

TEST_CASE("one rank computes while all others wait for it") {
  Job job;
  for (const int rank : {0, 1, 2, 4, 5, 6, 7}) job.wait(rank, world(), 11, "sum routing statistics");
  for (const int asking : {0, 4, 7}) job.expect(asking, Kind::late, {3});
  CHECK(job.says(0,
                 "rank 3 (host n00) is late: it computes since 11 min 40 s in step 41, phase backward, after "
                 "\"gather\" (number 10 of group tp); ranks 0 to 2 and 4 to 7 wait since 10 min 00 s in step 41, "
                 "phase backward, in \"sum routing statistics\" (number 11 of group world). Start the job again"));
}

TEST_CASE("a rank that waits elsewhere is not late, but the one that it waits for") {
  Job job;
  // 5 computes; 4 waits for it in tp; 0, 2, 6 for 4 in dp; the partners of those for them in tp.
  job.wait(4, tp_of(4), 11, "reduce");
  for (const int rank : {0, 2, 6}) job.wait(rank, dp_of(rank), 11, "sum gradients");
  for (const int rank : {1, 3, 7}) job.wait(rank, tp_of(rank), 11, "reduce");
  for (const int asking : {0, 1, 3, 4, 6, 7}) job.expect(asking, Kind::late, {5});
  CHECK(job.says(1, "ranks 1, 3, 4 and 7 wait"));
}

TEST_CASE("groups of the same kind are distinguished by their color") {
  Job job;
  job.wait(0, tp_of(0), 11, "reduce");  // for 1
  job.wait(2, tp_of(2), 11, "reduce");  // for 3
  job.expect(0, Kind::late, {1});
  job.expect(2, Kind::late, {3});
}

TEST_CASE("a stopped rank is late whatever it did last") {
  Job job;
  for (const int rank : {0, 1, 2, 3, 4, 5, 7}) job.wait(rank, world(), 11, "sum loss");
  SECTION("it computed") {
    job.stop(6, 15);
    job.expect(0, Kind::late, {6});
    CHECK(job.says(0,
                   "rank 6 (host n01) does not move any more since 15.0 s: it computed in step 41, phase backward, "
                   "after \"gather\" (number 10 of group tp); its process was stopped, or its machine is gone"));
  }
  SECTION("it had come to the same collective, and waited") {
    job.wait(6, world(), 11, "sum loss");
    job.stop(6, 15);
    job.expect(0, Kind::late, {6});
    CHECK(job.says(0, "it waited in step 41, phase backward, in \"sum loss\" (number 11 of group world)"));
  }
  SECTION("it waited for another one, which is only late for its sake") {
    job.wait(6, tp_of(6), 11, "reduce");
    job[7].waiting = false;
    job.wait(7, tp_of(7), 11, "reduce");
    job.stop(6, 15);
    for (const int asking : {0, 7}) job.expect(asking, Kind::late, {6});
  }
}

TEST_CASE("a rank that has gone on to another group and stands still there is found") {
  Job job;
  // 0 and 1 wait in the world's 11; 2 has begun it without waiting, and waits in dp for 4, which computes.
  for (int rank = 0; rank < 8; ++rank) job.begin(rank, world(), rank == 4 ? 10 : 11);
  job.wait(0, world(), 11, "sum");
  job.wait(2, dp_of(2), 11, "sum gradients");
  job.expect(0, Kind::late, {4});
  job.expect(2, Kind::late, {0 + 4, 6});  // 6 has not come to dp either
}

TEST_CASE("who has begun a collective and computes holds it up, when all have begun it") {
  Job job;  // MPI moves data only inside of its calls
  for (int rank = 0; rank < 8; ++rank) job.wait(rank, world(), 11, "reduce gradients");
  job[5].waiting = false;
  job.expect(0, Kind::late, {5});
  SECTION("but one that has not begun it comes first") {
    job[3].waiting = false;
    job[3].groups[0].number = 10;
    job.expect(0, Kind::late, {3});
  }
}

TEST_CASE("two late ranks are both named, the one that does not move first") {
  Job job;
  for (const int rank : {0, 1, 3, 4, 5, 6}) job.wait(rank, world(), 11, "sum");
  job.stop(7, 9);
  job.expect(0, Kind::late, {2, 7});
  const std::string report = describe(find_late(job.states, 0), job.states);
  CHECK(report.find("rank 7 (host n01) does not move") < report.find("rank 2 (host n00) is late"));
}

TEST_CASE("late ranks of two unconnected groups: each waiter names its own") {
  Job job;
  job.wait(0, tp_of(0), 11, "reduce");
  job.wait(7, dp_of(7), 11, "sum gradients");
  job.expect(0, Kind::late, {1});
  job.expect(7, Kind::late, {1, 3, 5});
}

TEST_CASE("late ranks that do not move or have long shown no sign of progress are hung") {
  Job job;
  job.wait(0, tp_of(0), 11, "reduce");  // for 1
  job.wait(2, tp_of(2), 11, "reduce");  // for 3
  job.wait(6, tp_of(6), 11, "reduce");  // for 7
  job[1].quiet = 600;
  job[3].quiet = 601;
  job[5].quiet = 602;  // nobody waits for it
  job.stop(7, 15);
  CHECK(find_late(job.states, 0).ranks == Ranks{1});
  CHECK(late_for_anybody(job.states) == Ranks{1, 3, 7});
  CHECK(hung({1}, job.states, 600).empty());
  CHECK(hung({1, 3, 7}, job.states, 600) == Ranks{3, 7});
  CHECK(late_for_anybody(std::vector<RankState>(3)).empty());
}

TEST_CASE("who has waited for long for late ranks that work says so, once for all") {
  constexpr double deadline = 2 * waited;
  Job job;
  job.wait(0, tp_of(0), 11, "reduce");                                                // for 1
  for (const int rank : {2, 4, 6}) job.wait(rank, dp_of(rank), 11, "sum gradients");  // for 0, so for 1
  job.wait(5, tp_of(5), 12, "gather");                                                // for 4, so for 1
  job.wait(7, dp_of(7), 11, "sum gradients");  // for 1, 3 and, by way of 5, for 1
  CHECK(is_to_warn(job.states, 0, deadline));
  for (const int rank : {2, 4, 5, 6}) CHECK_FALSE(is_to_warn(job.states, rank, deadline));
  CHECK(is_to_warn(job.states, 7, deadline));
  job[0].seconds = waited - 1;
  CHECK(is_to_warn(job.states, 2, deadline));
  CHECK_FALSE(is_to_warn(job.states, 4, deadline));
  job[3].quiet = deadline / 4 + 1;
  CHECK(is_to_warn(job.states, 2, deadline));
  CHECK_FALSE(is_to_warn(job.states, 7, deadline));
  CHECK(
      describe_work(job.states, 0) ==
      "rank 1 (host n00) is late: it computes since 11 min 40 s in step 41, phase backward, after \"gather\" (number "
      "10 of group tp); ranks 2, 4, 6 and 7 wait since 10 min 00 s in step 41, phase backward, in \"sum gradients\" "
      "(number 11 of group dp); rank 0 waits since 9 min 59 s in step 41, phase backward, in \"reduce\" (number 11 of "
      "group tp); rank 5 waits since 10 min 00 s in step 41, phase backward, in \"gather\" (number 12 of group tp). It "
      "is waited for, since it reads, writes, faults memory in or begins something else");
  const std::string both = describe_work(job.states, 7);
  CHECK(both.find("rank 1 (host n00) is late") < both.find("rank 3 (host n00) is late"));
  CHECK(both.find("They are waited for, since they read") != std::string::npos);
}

TEST_CASE("another order of collectives on some ranks") {
  Job job;
  SECTION("a ring of waiting") {
    job.wait(0, tp_of(0), 11, "reduce");         // for 1,
    job.wait(1, dp_of(1), 11, "sum gradients");  // which waits for 3,
    job.wait(3, tp_of(3), 11, "reduce");         // for 2,
    job.wait(2, dp_of(2), 11, "sum gradients");  // for 0 again
    for (const int rank : {4, 6}) job.wait(rank, dp_of(rank), 11, "sum gradients");
    for (const int rank : {5, 7}) job.wait(rank, dp_of(rank), 11, "sum gradients");
    job.expect(0, Kind::order, {0, 1, 2, 3});
    CHECK(job.says(0, "no rank is late, but ranks 0 to 3 wait for each other in different collectives"));
    CHECK(job.says(0,
                   "ranks 0 and 3 wait since 10 min 00 s in step 41, phase backward, in \"reduce\" (number 11 of "
                   "group tp)"));
    CHECK(job.says(0, "ranks 1, 2 and 4 to 7 wait"));
  }
  SECTION("different collectives under the same number") {
    for (int rank = 0; rank < 8; ++rank) job.wait(rank, world(), 11, rank == 5 ? "sum loss" : "sum");
    job.expect(0, Kind::order, {0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(job.says(0, "rank 5 waits"));
  }
}

TEST_CASE("a collective that all have come to, and that does not end") {
  Job job;
  for (int rank = 0; rank < 8; ++rank) job.wait(rank, world(), 11, "sum");
  SECTION("all wait in it") { job.expect(3, Kind::transfer, {0, 1, 2, 3, 4, 5, 6, 7}); }
  SECTION("one got out of it and waits for another one in the next") {
    job.wait(0, tp_of(0), 11, "reduce");
    job.expect(3, Kind::transfer, {0, 1, 2, 3, 4, 5, 6, 7});
  }
  CHECK(job.says(3, "ranks 0 to 7 have all come to a collective that does not end; look at the network"));
}

TEST_CASE("a rank of which nothing is known is named when nobody else explains the wait") {
  Job job;
  for (int rank = 0; rank < 8; ++rank) job.wait(rank, world(), 11, "sum");
  job[6] = RankState();
  job.expect(0, Kind::unknown, {6});
  CHECK(job.says(0, "nothing is known of rank 6"));
  job[2].waiting = false;
  job[2].groups[0].number = 10;
  job.expect(0, Kind::late, {2});
}

TEST_CASE("before the first step, and without a collective before") {
  Job job;
  for (const int rank : {0, 1, 2, 4, 5, 6, 7}) job.wait(rank, world(), 1, "agree on success");
  job[3].groups = {{world(), 0}};
  job[3].number = job[3].step = 0;
  job[3].phase.clear();
  CHECK(job.says(0, "rank 3 (host n00) is late: it computes since 11 min 40 s before the first step; ranks"));
}

TEST_CASE("all are late: every rank's work is reported") {
  Job job;
  for (RankState& state : job.states) state.quiet = 650;
  job.stop(1, 20);
  const std::string report = describe_alone(job.states);
  CHECK(report.find("no rank waits for another, and none goes on: rank 0 (host n00) shows no progress since 10 min 50 "
                    "s in step 41, phase backward, after \"gather\" (number 10 of group tp); rank 1 (host n00) does "
                    "not move any more since 20.0 s") == 0);
  CHECK(report.find("rank 7 (host n01) shows no progress") != std::string::npos);
}

TEST_CASE("long lists are cut off") {
  Job job;
  job.states.clear();
  Job pattern;
  for (int rank = 0; rank < 40; ++rank) {
    job.states.push_back(pattern[0]);
    job.states.back().groups = {{world(), 10}};
  }
  job.wait(0, world(), 11, "sum");
  CHECK(find_late(job.states, 0).ranks.size() == 39);
  CHECK(job.says(0, "rank 8 (host n00) is late"));
  CHECK(job.says(0, "; 31 more ranks are late; rank 0 waits"));
  CHECK(describe_alone(job.states).find("; 32 more ranks. ") != std::string::npos);
}

}  // namespace caravan::watch
