// SPDX-License-Identifier: Apache-2.0
// The watchdog's files on a storage that answers, and on one that does not: a pipe, which opens when somebody reads it.
#include "watch/file_keeper.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

namespace caravan::watch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr FileKeeper::Times times{.tick = 0.02, .pace = 0.02, .patience = 0.3};  // seconds

std::unique_ptr<FileKeeper> start(const std::filesystem::path& folder) {
  return std::make_unique<FileKeeper>(folder, std::make_shared<NodePages>(0, 1), "n01", times);
}

std::optional<int> ask(FileKeeper& files) {
  return files.ask<int>([](const WatchFolder& folder) { return folder.read_state(0).known ? 2 : 1; },
                        [] { return false; });
}

double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool comes(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace

TEST_CASE("a file keeper writes the state, answers, and takes its files away") {
  const test::ScratchFolder scratch;
  const std::filesystem::path folder = scratch / "watchdog";
  std::filesystem::create_directory(folder);
  const auto files = start(folder);
  REQUIRE(comes([&] { return ask(*files) == 2; }));
  CHECK(WatchFolder(folder, 1).read_state(0).host == "n01");
  CHECK_FALSE(files->alarm());
  CHECK(files->end(60));
  CHECK_FALSE(std::filesystem::exists(folder));
}

TEST_CASE("a stack is there as long as there is an alarm") {
  const test::ScratchFolder scratch;
  const auto files = start(scratch.path());
  const WatchFolder other(scratch.path(), 1);
  REQUIRE(other.raise_alarm());
  REQUIRE(comes([&] { return files->alarm(); }));
  CHECK_FALSE(other.read_stack(0));
  files->give_stack("#0 somewhere");
  REQUIRE(comes([&] { return other.read_stack(0) == "#0 somewhere"; }));
  other.withdraw_alarm();
  REQUIRE(comes([&] { return !other.read_stack(0); }));
  CHECK(files->end(60));
}

TEST_CASE("who asks a silent storage waits once, and gets answers again when it does") {
  const test::ScratchFolder scratch;
  const std::filesystem::path pipe = scratch / "rank-00000.json";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const auto files = start(scratch.path());
  const auto answers = [&] { return files->ask<int>([](auto&) { return 1; }, [] { return false; }).has_value(); };
  REQUIRE(comes([&] { return !answers(); }));  // a first question may come before the thread's first write
  CHECK(seconds_of([&] { CHECK_FALSE(answers()); }) < times.patience);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  CHECK(comes(answers));
  CHECK(files->end(60));
  close(reader);
}

TEST_CASE("a question is given up when it is not to be waited for any more") {
  const test::ScratchFolder scratch;
  REQUIRE(mkfifo((scratch / "rank-00000.json").c_str(), 0600) == 0);
  FileKeeper files(scratch.path(), std::make_shared<NodePages>(0, 1), "n01",
                   {.tick = 0.02, .pace = 0.02, .patience = 600});
  int asked = 0;
  const auto answer = [&] { return files.ask<int>([](const WatchFolder&) { return 1; }, [&] { return ++asked > 3; }); };
  REQUIRE(comes([&] { return asked = 0, !answer(); }));
  CHECK(asked == 4);
  CHECK_FALSE(files.end(0.2));  // it does not hold up the test either
}

TEST_CASE("what was asked before the end is done, though nobody waits for it") {
  const test::ScratchFolder scratch;
  const auto files = start(scratch.path());
  std::atomic<int> done{0};
  const auto ask = [&](std::chrono::milliseconds time) {
    files->ask<bool>(
        [&done, time](const WatchFolder&) {
          std::this_thread::sleep_for(time);
          return ++done > 0;
        },
        [] { return true; });
  };
  ask(std::chrono::milliseconds(500));  // meanwhile the end comes
  ask({});
  CHECK(files->end(60));
  CHECK(done == 2);
}

TEST_CASE("without a folder nothing is answered, at once") {
  FileKeeper files({}, std::make_shared<NodePages>(0, 1), "n01", {.tick = 1, .pace = 1, .patience = 600});
  CHECK_FALSE(ask(files));
  CHECK_FALSE(files.alarm());
  files.give_stack("#0 somewhere");
  CHECK(files.end(0));
}

TEST_CASE("a shared text is read whole, when it is new enough, and cut when it is too long") {
  SharedText text;
  CHECK_FALSE(text.read(0));
  text.write("a stack", 100);
  CHECK(text.read(100) == "a stack");
  CHECK_FALSE(text.read(101));
  text.write(std::string(SharedText::most_bytes + 5, 's'), 200);
  CHECK(text.read(200) == std::string(SharedText::most_bytes, 's'));
}

}  // namespace caravan::watch
