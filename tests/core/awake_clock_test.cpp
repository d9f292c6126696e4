// SPDX-License-Identifier: Apache-2.0
#include "core/awake_clock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

namespace {

int clock_threads() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    count += test::read_text(task.path() / "comm") == "caravan-clock\n" ? 1 : 0;
  }
  return count;
}

}  // namespace

TEST_CASE("time for which a process is stopped does not count") {
  core::awake_seconds();  // the child is forked from a process whose clock has a thread
  const test::ScratchFolder scratch;
  const std::string ready = scratch / "ready", result = scratch / "result";
  const pid_t child = fork();
  if (child == 0) {
    const core::AwakeStopwatch stopwatch;
    const double start = core::elapsed_seconds();
    test::write_text(ready, "");
    const auto all = [&] { return core::elapsed_seconds() - start; };
    bool rises = true;
    for (double before = 0, now = 0; all() < 4; before = now) {  // of which it is stopped for three
      usleep(10'000);
      now = stopwatch.seconds();
      rises = rises && now >= before;
    }
    std::ofstream(result) << stopwatch.seconds() << ' ' << all() << ' ' << rises << ' ' << clock_threads();
    _exit(0);
  }
  while (access(ready.c_str(), F_OK) != 0) usleep(1000);
  usleep(300'000);
  kill(child, SIGSTOP);
  usleep(3'000'000);
  kill(child, SIGCONT);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  std::ifstream file(result);
  double stopwatch = 0, all = 0;
  bool rises = false;
  int threads = 0;
  file >> stopwatch >> all >> rises >> threads;
  CAPTURE(stopwatch, all);
  // What another process takes of the machine makes `all` longer, and the stopwatch by no more.
  CHECK(stopwatch <= all - 3 + core::longest_tick + 0.1);
  CHECK(stopwatch > 0);
  CHECK(rises);
  CHECK(threads == 1);
}

TEST_CASE("one thread times a running process, however many stopwatches there are") {
  const core::AwakeStopwatch first;
  const auto begin = std::chrono::steady_clock::now();
  const core::AwakeStopwatch stopwatch;
  double seconds = 0;
  while ((seconds = stopwatch.seconds()) < 0.05) usleep(1000);
  CHECK(seconds <= std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  CHECK(first.seconds() >= seconds);
  CHECK(clock_threads() == 1);
}
