// SPDX-License-Identifier: Apache-2.0
// Ending a process whose threads hang.
#include "core/leave.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "core/log.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/full_pipe.hpp"

namespace caravan::core {
namespace {

using Clock = std::chrono::steady_clock;

struct Ended {
  int code = -1;  // -1: not by an exit
  double seconds = 0;
};

/// Runs `work` in a process of its own whose standard error is `error`; after a minute it is killed.
Ended in_child(int error, const std::function<void()>& work) {
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    dup2(error, STDERR_FILENO);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, std::chrono::duration<double>(Clock::now() - start).count()};
}

Ended in_child(const std::filesystem::path& error, const std::function<void()>& work) {
  const int file = open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  const Ended ended = in_child(file, work);
  close(file);
  return ended;
}

/// What a thread in the kernel does to those that wait for it: a destructor that never returns.
struct NeverDone {
  NeverDone() = default;
  NeverDone(const NeverDone&) = delete;
  NeverDone& operator=(const NeverDone&) = delete;
  ~NeverDone() {
    for (;;) pause();
  }
};

}  // namespace

TEST_CASE("a process leaves with code and message, past a hanging thread and destructors") {
  const test::ScratchFolder scratch;
  const Ended ended = in_child(scratch / "error", [&] {
    std::thread([] {
      for (;;) pause();
    }).detach();
    const NeverDone held;
    log_to_file((scratch / "log.txt").string());
    log_as_rank(2, 4);
    leave_at_once(ExitCode::peer_lost, "the writer of rank 2 hangs");
  });
  CHECK(ended.code == 76);
  CHECK(test::read_text(scratch / "error") == "error (rank 2 of 4): the writer of rank 2 hangs\n");
  CHECK(test::read_text(scratch / "log.txt") == "error (rank 2 of 4): the writer of rank 2 hangs\n");
}

TEST_CASE("a standard error that takes nothing does not keep a process from leaving") {
  const test::FullPipe pipe;
  const Ended ended = in_child(pipe.ends[1], [] { leave_at_once(ExitCode::storage_full, "nobody reads this"); });
  CHECK(ended.code == 74);
  CHECK(ended.seconds >= 2.5);  // it gave the message three seconds
}

TEST_CASE("an error that unwinds into what never ends gets out all the same") {
  const test::ScratchFolder scratch;
  const Ended ended = in_child(scratch / "error", [] {
    leave_within(600, ExitCode::internal, "of before");
    try {
      const NeverDone held;
      leave_within(0.2, ExitCode::peer_lost, "of now");
      throw Error(ExitCode::peer_lost, "of now");
    } catch (const Error&) {
      _exit(1);
    }
  });
  CHECK(ended.code == 76);
  CHECK(test::read_text(scratch / "error") == "error: of now\n");
}

TEST_CASE("a process that ends in time is left alone") {
  const test::ScratchFolder scratch;
  const Ended ended = in_child(scratch / "error", [] { leave_within(600, ExitCode::peer_lost, "too late"); });
  CHECK(ended.code == 0);
  CHECK(test::read_text(scratch / "error").empty());
}

TEST_CASE("without a message a process leaves without a word") {
  const test::ScratchFolder scratch;
  const Ended ended = in_child(scratch / "error", [] {
    leave_within(0.1, ExitCode::peer_lost, "");
    for (;;) pause();
  });
  CHECK(ended.code == 76);
  CHECK(test::read_text(scratch / "error").empty());
}

}  // namespace caravan::core
