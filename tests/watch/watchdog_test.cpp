// SPDX-License-Identifier: Apache-2.0
// One true rank, whose watchdog looks for others that are only files.
#include "tests/watch/file_ranks.hpp"

namespace caravan::watch {

TEST_CASE("a rank that computes while this one waits is named, with its stack") {
  RankZero zero;
  const FileRank other(zero.folder, 1, /*beats=*/true);
  {
    const auto watchdog = zero.start();
    CHECK(activity().patience() > 0);
    zero.wait();
    const std::string report = comes_verdict();
    CHECK(has(report, "rank 1 (host n07) is late: it computes since"));
    CHECK(has(report, "in step 41, phase backward; rank 0 waits since"));
    CHECK(has(report, ", in \"sum loss\" (number 11 of group world)"));
    CHECK(has(report, "\nstack of rank 1:\n#0 a_function_that_hangs"));
  }
  CHECK_FALSE(activity().has_verdict());
  CHECK(activity().patience() == 0);
  CHECK_FALSE(std::filesystem::exists(zero.folder / "rank-00000.json"));
}

TEST_CASE("a late rank that works is waited for, and named when it ceases to") {
  RankZero zero;
  FileRank other(zero.folder, 1, /*beats=*/true, /*works=*/true);
  const WatchFolder folder(zero.folder, 1);
  const auto watchdog = zero.start();
  const Timing timing(deadline);
  CHECK(activity().patience() == timing.patience);
  zero.wait();
  // Two looks, each of which puts the collective's own deadline off by what was waited so far.
  REQUIRE(comes([&] { return activity().patience() > timing.patience + deadline; }));
  const double first = activity().patience();
  REQUIRE(comes([&] { return activity().patience() > first; }));
  CHECK_FALSE(activity().has_verdict());
  CHECK_FALSE(folder.alarm());
  SECTION("the collective ends") {
    activity().go_on(Clock::now());
    REQUIRE(comes([&] { return activity().patience() == timing.patience; }));
  }
  SECTION("it ceases to work") {
    other.hang();
    CHECK(has(comes_verdict(), "rank 1 (host n07) is late"));
  }
}

TEST_CASE("a rank whose file does not change any more is named, and why it has no stack") {
  RankZero zero;
  const FileRank other(zero.folder, 1, /*beats=*/false);
  const auto watchdog = zero.start();
  zero.wait();
  const std::string report = comes_verdict();
  CHECK(has(report, "rank 1 (host n07) does not move any more since"));
  CHECK(has(report, "\nno stack of rank 1: its process does not run"));
}

TEST_CASE("a collective that ends after all withdraws the alarm") {
  RankZero zero;
  const FileRank other(zero.folder, 1, /*beats=*/false);  // so that the watchdog looks for two seconds
  const auto watchdog = zero.start();
  const WatchFolder folder(zero.folder, 1);
  zero.wait();
  REQUIRE(comes([&] { return folder.alarm(); }));
  activity().go_on(Clock::now());
  REQUIRE(comes([&] { return !folder.alarm(); }));
  CHECK_FALSE(activity().has_verdict());
}

TEST_CASE("a collective that ends when the verdict is there withdraws both for good") {
  RankZero zero;
  FileRank other(zero.folder, 1, /*beats=*/true);
  auto watchdog = zero.start();
  const WatchFolder folder(zero.folder, 1);
  zero.wait();
  REQUIRE(comes([] { return activity().has_verdict(); }));
  CHECK(folder.alarm());
  activity().go_on(Clock::now());
  SECTION("and the next one takes long") {
    other.work();
    activity().begin(zero.world, 12);
    activity().wait(zero.world, 12, "sum counts", Clock::now());
    CHECK_FALSE(activity().take_verdict().has_value());
    REQUIRE(comes([] { return !activity().has_verdict(); }));
    REQUIRE(comes([&] { return !folder.alarm(); }));
  }
  SECTION("and the command ends") {
    watchdog.reset();
    CHECK_FALSE(activity().has_verdict());
    CHECK_FALSE(folder.alarm());
  }
}

TEST_CASE("a rank that another looks for writes its stack, and removes it after the alarm") {
  RankZero zero;
  const FileRank other(zero.folder, 1, /*beats=*/true);
  const auto watchdog = zero.start();
  const WatchFolder folder(zero.folder, 1);
  REQUIRE(folder.raise_alarm());
  REQUIRE(comes([&] { return folder.read_stack(0).has_value(); }));
  CHECK(has(*folder.read_stack(0), "#0 "));
  CHECK(has(*folder.read_stack(0), " in libc.so.6+0x"));  // it sleeps between two looks
  CHECK(has(*folder.read_stack(0), "watch_test+0x"));
  folder.withdraw_alarm();
  REQUIRE(comes([&] { return !folder.read_stack(0).has_value(); }));
}

TEST_CASE("timing leaves room for the verdict") {
  for (const double seconds : {0.5, 3.0, 600.0, 1e6}) {
    const Timing timing(seconds);
    CAPTURE(seconds);
    CHECK(timing.tick <= 1);
    CHECK(timing.tick <= seconds / 10);
    CHECK(timing.pace >= timing.tick);
    CHECK(timing.still_elsewhere > 2 * timing.pace);
    // Until this rank looks, a second time with an alarm; for files four times, and the stack among them.
    CHECK(timing.patience > timing.again + 2 * timing.still_elsewhere + 4 * timing.stack);
  }
}

}  // namespace caravan::watch
