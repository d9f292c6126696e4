// SPDX-License-Identifier: Apache-2.0
#include "core/run_program.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "core/background_thread.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST_CASE("a program gives both outputs and its exit code, and gets its arguments as given") {
  const auto result = core::run_program(
      {"sh", "-c", "printf '%s|' \"$@\"; echo aside >&2; exit 7", "sh", "$(id)", "a b", "'"}, {}, 30s);
  REQUIRE(result);
  CHECK(result->status == 7);
  CHECK(result->output == "$(id)|a b|'|aside\n");
  CHECK(core::run_program({"sh", "-c", "kill -TERM $$"}, {}, 30s)->status == 128 + SIGTERM);
  CHECK(core::run_program({"sh", "-c", "head -c 1000000 /dev/zero"}, {}, 30s)->output.size() == 64 << 10);
}

TEST_CASE("a program that is not there gives nothing") {
  CHECK_FALSE(core::run_program({"no-such-program-here"}, {}, 30s).has_value());
}

TEST_CASE("variables can be hidden from a program") {
  ::setenv("CARAVAN_TEST_A", "1", 1);
  ::setenv("CARAVAN_OTHER", "2", 1);
  const auto result = core::run_program({"sh", "-c", "echo $CARAVAN_TEST_A$CARAVAN_OTHER"}, {"CARAVAN_TEST_"}, 30s);
  CHECK(result->output == "2\n");
}

TEST_CASE("a program that does not end in time is killed, with what it has started") {
  const test::ScratchFolder folder;
  const std::string file = (folder / "pid").string();
  const auto start = Clock::now();
  CHECK_FALSE(core::run_program({"sh", "-c", "sleep 100 & echo $! >\"$0\"; wait", file}, {}, 2s).has_value());
  CHECK(Clock::now() - start < 30s);
  const pid_t grandchild = std::atoi(test::read_text(file).c_str());
  REQUIRE(grandchild > 1);
  const auto ended = [&] {  // or is a zombie that its new parent has not asked for yet
    std::ifstream stat("/proc/" + std::to_string(grandchild) + "/stat");
    std::string pid, name, state;
    return !(stat >> pid >> name >> state) || state == "Z";
  };
  while (!ended() && Clock::now() - start < 30s) ::usleep(1000);
  CHECK(ended());
}

TEST_CASE("a program's end is not that of the pipe, which what it left behind keeps open") {
  const auto start = Clock::now();
  const auto result = core::run_program({"sh", "-c", "sleep 5 & echo here"}, {}, 30s);
  REQUIRE(result);
  CHECK(result->output == "here\n");
  CHECK(Clock::now() - start < 4s);  // half of it is what a slow machine may take
}

TEST_CASE("a background thread takes no signal, and a worker is known while it lives") {
  sigset_t seen{};
  std::vector<int> present;
  int task = 0;
  core::start_thread("caravan-test", [&] {
    pthread_sigmask(SIG_SETMASK, nullptr, &seen);
    task = gettid();
    present = core::workers();
  }).join();
  CHECK(sigismember(&seen, SIGUSR1) == 1);
  CHECK(sigismember(&seen, SIGTERM) == 1);
  CHECK(present == std::vector<int>{task});
  CHECK(core::workers().empty());
  core::start_attendant("caravan-test", [&] { present = core::workers(); }).join();
  CHECK(present.empty());
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  CHECK(sigismember(&own, SIGUSR1) == 0);
}
