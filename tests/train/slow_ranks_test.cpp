// SPDX-License-Identifier: Apache-2.0
// Which rank the others wait for.
#include "train/slow_ranks.hpp"

#include <thread>

#include "core/host_name.hpp"
#include "core/log.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

namespace caravan::train {

TEST_CASE("a rank is slow by what the usual rank waited more than it") {
  SECTION("one of four") {
    const std::vector<SlowRank> slow = by_slowness({3.0, 3.2, 0.5, 2.9}, 10);
    REQUIRE(slow.size() == 4);
    CHECK(slow[0].rank == 2);
    CHECK(slow[0].share == Approx(0.25).epsilon(1e-12));
    CHECK(slow[1].rank == 3);
    CHECK(slow[1].share == Approx(0.01).epsilon(1e-12));
    CHECK(slow[2].rank == 0);  // those that wait as long as the usual one, or longer
    CHECK(slow[2].share == 0);
    CHECK(slow[3].share == 0);
  }
  SECTION("one of two, and two of four") {
    CHECK(by_slowness({1.0, 4.0}, 10)[0].rank == 0);
    CHECK(by_slowness({1.0, 4.0}, 10)[0].share == Approx(0.3).epsilon(1e-12));
    const std::vector<SlowRank> slow = by_slowness({4.0, 1.0, 4.0, 2.0}, 10);
    CHECK(slow[0].rank == 1);
    CHECK(slow[1].rank == 3);
    CHECK(slow[1].share == Approx(0.2).epsilon(1e-12));
  }
  SECTION("when all wait alike, or a single one waits long, nobody is slow") {
    for (const SlowRank& one : by_slowness({2.0, 2.0, 2.0}, 10)) CHECK(one.share == 0);
    for (const SlowRank& one : by_slowness({2.0, 2.0, 9.0, 2.0}, 10)) CHECK(one.share == 0);
  }
}

TEST_CASE("the rank that comes late is found when due, by all ranks, and named in the log") {
  const test::ScratchFolder scratch;
  const auto first = comm::make_world(60);
  const comm::Groups groups = comm::make_groups({first->size(), first->rank(), {}}, 60);
  const int ranks = first->size(), late = ranks - 1;
  core::log_as_rank(first->rank(), ranks);
  core::log_to_file((scratch / "log.txt").string());
  SlowRanks slow_ranks(groups, 2);
  std::vector<std::optional<SlowRank>> found;
  for (std::int64_t step = 1; step <= 4; ++step) {
    // What the last rank needs longer than all others is most of the time. Without it in steps 3 and 4.
    if (groups.world->rank() == late && step <= 2) std::this_thread::sleep_for(std::chrono::milliseconds(150));
    groups.world->barrier("end of the step");
    found.push_back(slow_ranks.after_step(step));
  }
  core::log_to_file("/dev/null");
  core::log_as_rank(0, 1);
  CHECK_FALSE(found[0]);
  CHECK_FALSE(found[2]);
  REQUIRE(found[1].has_value() == (ranks > 1));
  CHECK(found[3].has_value() == (ranks > 1));
  if (ranks == 1) return;
  CHECK(found[1]->rank == late);
  CHECK(found[1]->share > 0.5);
  CHECK(found[1]->share <= 1);
  CHECK(groups.world->all_reduce("compare", found[3]->share, comm::Reduce::max) == found[3]->share);
  if (groups.world->rank() > 0) return;
  const std::string log = test::read_text(scratch / "log.txt");
  CHECK(log.find("warning: rank " + std::to_string(late) + " (host " + core::host_name() +
                 ") is slow: the others waited ") == 0);
  CHECK(log.find(" % of the last 2 steps for it\n") != std::string::npos);
}

}  // namespace caravan::train
