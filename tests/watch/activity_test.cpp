// SPDX-License-Identifier: Apache-2.0
// What a process publishes, and how another one reads it.
#include "watch/activity.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "watch/node_pages.hpp"
#include "watch/rank_state.hpp"
#include "watch/watch_folder.hpp"

namespace caravan::watch {
namespace {

using Clock = Activity::Clock;

RankState example() {
  Page page;
  Activity one;
  one.publish_to(&page);
  const int world = one.add_group("world", 0, 0), tp = one.add_group("tp", 2, 6);
  one.begin(world, 4);
  one.begin(tp, 812);
  one.enter_step(41);
  one.enter_phase("backward");
  one.wait(tp, 811, "reduce output of row linear", Clock::now() - std::chrono::seconds(5));
  page.beat = 77;
  page.quiet = 2.5;
  return state_of(page, "n07");
}

}  // namespace

TEST_CASE("a page tells what its activity does") {
  const RankState state = example();
  CHECK(state.known);
  CHECK(state.host == "n07");
  CHECK(state.waiting);
  CHECK(state.group == Group{2, 6, "tp"});
  CHECK(state.group.name == "tp");
  CHECK(state.number == 811);
  CHECK(state.operation == "reduce output of row linear");
  CHECK(state.seconds >= 5);
  CHECK(state.seconds < 60);
  CHECK(state.step == 41);
  CHECK(state.phase == "backward");
  CHECK(state.beat == 77);
  CHECK(state.quiet == 2.5);
  REQUIRE(state.groups.size() == 2);
  CHECK(state.begun({0, 0, ""}) == 4);
  CHECK(state.begun({2, 6, ""}) == 812);
  CHECK_FALSE(state.begun({2, 4, ""}));
}

TEST_CASE("a page named later begins with what was published; a group that is gone is not") {
  Activity one;
  const int world = one.add_group("world", 0, 0), tp = one.add_group("tp", 1, 0);
  one.begin(tp, 3);
  one.wait(tp, 3, "gather", Clock::now());
  one.go_on(Clock::now());
  Page page;
  one.publish_to(&page);
  RankState state = state_of(page, "");
  CHECK_FALSE(state.waiting);
  CHECK(state.operation == "gather");
  CHECK(state.groups.size() == 2);
  one.remove_group(world);
  CHECK(state_of(page, "").groups.size() == 1);
  one.publish_to(nullptr);
  one.begin(tp, 4);
  CHECK(state_of(page, "").begun({1, 0, ""}) == 3);
}

TEST_CASE("names that do not fit are cut, and groups beyond the slots are not watched") {
  Activity one;
  Page page;
  one.publish_to(&page);
  for (std::size_t i = 0; i < most_groups; ++i) CHECK(one.add_group("a very long name", static_cast<int>(i), 0) >= 0);
  const int none = one.add_group("late", 99, 0);
  CHECK(none == -1);
  one.begin(none, 5);
  one.wait(none, 5, "nothing", Clock::now());
  one.enter_phase(std::string(100, 'p').c_str());
  const RankState state = state_of(page, "");
  CHECK_FALSE(state.waiting);
  CHECK(state.groups.size() == most_groups);
  CHECK(state.groups[0].group.name == "a very ");
  CHECK(state.phase == std::string(23, 'p'));
}

TEST_CASE("a reader never sees half of a change") {
  Activity one;
  Page page;
  one.publish_to(&page);
  const int slot = one.add_group("world", 0, 0);
  one.wait(slot, 0, "0", Clock::time_point(std::chrono::nanoseconds(0)));
  std::atomic<bool> end{false};
  std::thread writer([&] {
    // Number, time and operation always say the same. With a pause now and then: a reader finds nothing whole while
    // changes follow each other closely enough.
    for (std::int64_t i = 0; !end; ++i) {
      if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(1));
      one.wait(slot, i, std::to_string(i).c_str(), Clock::time_point(std::chrono::nanoseconds(i)));
    }
  });
  std::int64_t torn = 0, last = 0, changes = 0;
  for (int i = 0; i < 200'000 || changes < 100; ++i) {
    const Doing doing = page.read().doing;
    torn += doing.since != doing.number || doing.operation.data() != std::to_string(doing.number);
    changes += doing.number != last;
    last = doing.number;
  }
  end = true;
  writer.join();
  CHECK(torn == 0);
}

TEST_CASE("a verdict is thrown by the collective that it is about, and by all later ones") {
  Activity one;
  const int world = one.add_group("world", 0, 0), tp = one.add_group("tp", 2, 6);
  const auto begin = [&](int slot, std::int64_t number) {
    one.begin(slot, number);
    one.wait(slot, number, "sum", Clock::now());
  };
  CHECK_FALSE(one.withdraw_verdict());
  begin(tp, 7);
  one.give_verdict({"rank 3 is late", 2, 6, 7});
  SECTION("of which one alone") {
    one.go_on(Clock::now());
    CHECK_FALSE(one.take_verdict());  // it has ended
    begin(tp, 8);
    CHECK_FALSE(one.take_verdict());
    begin(world, 7);
    CHECK_FALSE(one.take_verdict());
    CHECK_FALSE(one.failure());
    CHECK(one.has_verdict());
    CHECK(one.withdraw_verdict());
    CHECK_FALSE(one.has_verdict());
    begin(tp, 7);
    CHECK_FALSE(one.take_verdict());
  }
  SECTION("and who has taken it throws it, whatever else ends") {
    CHECK(one.take_verdict() == "rank 3 is late");
    CHECK(one.failure() == "rank 3 is late");
    CHECK_FALSE(one.withdraw_verdict());
    one.go_on(Clock::now());
    begin(world, 9);
    CHECK_FALSE(one.failure());
    CHECK(one.take_verdict() == "rank 3 is late");
    CHECK(one.failure() == "rank 3 is late");
    one.clear_verdict();
    CHECK_FALSE(one.has_verdict());
    CHECK_FALSE(one.take_verdict());
  }
}

TEST_CASE("another process reads the page, unless the key is another one's") {
  int ready[2], go[2];
  REQUIRE(pipe(ready) == 0);
  REQUIRE(pipe(go) == 0);
  const pid_t child = fork();
  if (child == 0) {
    NodePages pages(1, 2);
    Activity one;
    one.publish_to(&pages.own());
    one.enter_step(7);
    const NodePages::Address address = pages.address();
    char answer = 0;
    const bool answered = write(ready[1], &address, sizeof address) == sizeof address && read(go[0], &answer, 1) == 1;
    one.enter_step(8);
    pages.close();
    _exit(answered && write(ready[1], &answer, 1) == 1 && read(go[0], &answer, 1) == 1 ? 0 : 1);
  }
  NodePages::Address address;
  REQUIRE(read(ready[0], &address, sizeof address) == sizeof address);
  NodePages mine(0, 2), mistaken(0, 2), late(0, 2);
  mine.open(1, address);
  ++address.key;
  mistaken.open(1, address);
  --address.key;
  REQUIRE(mine.of(1) != nullptr);
  CHECK(mistaken.of(1) == nullptr);
  CHECK(mine.of(1)->read().doing.step == 7);
  char byte = 'x';
  REQUIRE(write(go[1], &byte, 1) == 1);
  REQUIRE(read(ready[0], &byte, 1) == 1);
  CHECK(mine.of(1)->read().doing.step == 8);
  late.open(1, address);  // the descriptor is closed
  CHECK(late.of(1) == nullptr);
  REQUIRE(write(go[1], &byte, 1) == 1);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(mine.of(1)->read().doing.step == 8);  // also when it has ended
  for (const int end : {ready[0], ready[1], go[0], go[1]}) close(end);
}

TEST_CASE("a state comes back from its file as it was; a torn or missing one is unknown") {
  const test::ScratchFolder scratch;
  const WatchFolder folder(scratch.path(), 3);
  RankState state = example();
  folder.write_state(state);
  const std::filesystem::path file = scratch / "rank-00003.json";
  REQUIRE(std::filesystem::exists(file));
  CHECK(to_json(folder.read_state(3)) == to_json(state));
  CHECK(folder.read_state(3).known);
  state.operation = "a";  // shorter than before
  folder.write_state(state);
  CHECK(to_json(folder.read_state(3)) == to_json(state));
  CHECK_FALSE(folder.read_state(4).known);
  const std::string whole = test::read_text(file);
  test::write_text(file, whole.substr(0, 40));
  CHECK_FALSE(folder.read_state(3).known);
  test::write_text(file, "{}");
  CHECK_FALSE(folder.read_state(3).known);
  folder.clean_up();
  CHECK_FALSE(std::filesystem::exists(scratch.path()));  // it was the only one
}

TEST_CASE("one rank raises the alarm") {
  const test::ScratchFolder scratch;
  const WatchFolder first(scratch.path(), 0), second(scratch.path(), 1);
  CHECK_FALSE(second.alarm());
  CHECK(first.raise_alarm());
  CHECK_FALSE(second.raise_alarm());
  CHECK(second.alarm());
  first.withdraw_alarm();
  CHECK(second.raise_alarm());
  CHECK_FALSE(first.read_stack(1));
  second.write_stack("#0 main");
  CHECK(first.read_stack(1) == "#0 main");
  second.remove_stack();
  CHECK_FALSE(first.read_stack(1));
}

}  // namespace caravan::watch
