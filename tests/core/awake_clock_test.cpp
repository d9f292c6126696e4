// SPDX-License-Identifier: Apache-2.0
#include "core/awake_clock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

TEST_CASE("time for which a process is stopped does not count") {
  const test::ScratchFolder scratch;
  const std::string ready = scratch / "ready", told = scratch / "told";
  const pid_t child = fork();
  if (child == 0) {
    const core::AwakeClock clock;
    const core::AwakeStopwatch stopwatch(clock);
    test::write_text(ready, "");
    const auto begin = std::chrono::steady_clock::now();
    const auto all = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    while (all() < 4) usleep(10'000);  // of which it is stopped for three
    std::ofstream(told) << clock.seconds() << ' ' << stopwatch.seconds() << ' ' << all();
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
  std::ifstream file(told);
  double clock = 0, stopwatch = 0, all = 0;
  file >> clock >> stopwatch >> all;
  CAPTURE(clock, stopwatch, all);
  // The tick in which it was stopped counts as one of a second at the most; what another process takes of the machine
  // makes `all` longer, and this clock by no more.
  CHECK(clock <= all - 3 + 1);
  CHECK(clock > 0);
  CHECK(stopwatch <= all - 3 + 1 + 2 * core::AwakeClock::resolution);
  CHECK(stopwatch >= clock);
}

TEST_CASE("what a running process does is timed by the system's clock") {
  const core::AwakeClock clock;
  const auto begin = std::chrono::steady_clock::now();
  const core::AwakeStopwatch stopwatch(clock);
  usleep(50'000);
  const double seconds = stopwatch.seconds();
  CHECK(seconds >= 0.05);
  CHECK(seconds <= std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}
