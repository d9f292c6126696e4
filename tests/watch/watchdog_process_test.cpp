// SPDX-License-Identifier: Apache-2.0
// Watchdogs that end their process, each in a process of its own.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/background_thread.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "run/run_lock.hpp"
#include "tests/support/full_pipe.hpp"
#include "tests/watch/file_ranks.hpp"

namespace caravan::watch {
namespace {

/// Runs `work` in a process of its own, whose standard error goes to a file.
class Child {
 public:
  Child(const std::filesystem::path& output, const std::function<void()>& work) : output_(output), process_(fork()) {
    if (process_ != 0) return;
    setenv("TMPDIR", output.parent_path().c_str(), 1);  // what it leaves goes with the test's own folder
    dup2(open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    work();
    _exit(0);
  }
  /// Its exit code, and what it wrote.
  std::pair<int, std::string> end() const {
    int status = 0;
    waitpid(process_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, test::read_text(output_)};
  }

 private:
  std::filesystem::path output_;
  pid_t process_;
};

std::pair<int, std::string> in_child(const std::filesystem::path& output, const std::function<void()>& work) {
  return Child(output, work).end();
}

/// A destructor that waits for what never comes, if it is to.
class Hanging {
 public:
  explicit Hanging(bool hangs) : hangs_(hangs) {}
  ~Hanging() {
    while (hangs_) pause();
  }
  Hanging(const Hanging&) = delete;
  Hanging& operator=(const Hanging&) = delete;

 private:
  bool hangs_;
};

#ifdef __SANITIZE_ADDRESS__  // its own handler of signals lies between
const std::string innermost = "#0 libc.so.6+0x";
#else
const std::string innermost = "#0 watch_test+0x";
#endif

[[noreturn]] void spin() {
  std::atomic<int> turns{0};
  for (;;) ++turns;
}

}  // namespace

TEST_CASE("a rank that is alone and shows no progress ends with its own stack") {
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    activity().enter_step(9);
    const Watchdog watchdog(scratch.path(), deadline, NodePages(0, 1));
    spin();
  });
  CHECK(code == 76);
  CHECK(has(text, "no rank waits for another, and none goes on: rank 0 (host "));
  CHECK(has(text, "shows no progress since"));
  CHECK(has(text, "in step 9"));
  CHECK(has(text, "stack of rank 0:\n" + innermost));
}

TEST_CASE("the heartbeat of a rank's hold on the run folder is no sign of its progress") {
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    const Watchdog watchdog(scratch.path(), deadline, NodePages(0, 1));
    const run::RunLock lock(scratch.path(), {.heartbeat = std::chrono::milliseconds(5)});
    alarm(static_cast<unsigned>(long_enough));
    spin();
  });
  CHECK(code == 76);
  CHECK(has(text, "shows no progress since"));
}

TEST_CASE("a library's thread that reads for a process's whole life is no sign of progress") {
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    const Watchdog watchdog(scratch.path(), deadline, NodePages(0, 1));
    std::thread([] {
      for (;;) {
        test::read_text("/proc/self/stat");
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }).detach();
    alarm(static_cast<unsigned>(long_enough));
    spin();
  });
  CHECK(code == 76);
  CHECK(has(text, "shows no progress since"));
}

TEST_CASE("a worker that ends is no sign of progress, nor is one that lasts and idles") {
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    const Watchdog watchdog(scratch.path(), deadline, NodePages(0, 1));
    // More often than every `deadline` one ends, and none begins.
    std::vector<std::jthread> workers;
    for (int i = 0; i < 100; ++i) {
      workers.push_back(
          core::start_thread("caravan-test", [i] { std::this_thread::sleep_for(std::chrono::milliseconds(200 * i)); }));
    }
    alarm(10);  // half of the time until the last one has ended
    spin();
  });
  CHECK(code == 76);
  CHECK(has(text, "shows no progress since"));
}

TEST_CASE("that another rank looks at its stack is no sign of a rank's progress") {
  constexpr double quiet = 1;  // seconds
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    alarm(static_cast<unsigned>(2 * long_enough));
    RankZero zero;
    const FileRank other(zero.folder, 1, /*beats=*/true, /*works=*/true);  // so that nobody ends the process
    const auto watchdog = zero.start();
    std::thread([&] {
      const WatchFolder folder(zero.folder, 1);
      if (!comes([&] { return folder.read_state(0).quiet > quiet; })) _exit(2);
      folder.raise_alarm();
      if (!comes([&] { return folder.read_stack(0).has_value(); })) _exit(3);
      const std::uint64_t seen = folder.read_state(0).beat;
      RankState later;
      if (!comes([&] { return (later = folder.read_state(0)).beat > seen + 3; })) _exit(4);
      _exit(later.quiet > quiet ? 0 : 5);
    }).detach();
    spin();
  });
  CHECK(code == 0);
  CHECK(text.empty());
}

TEST_CASE("a rank that is alone goes on while it reads, writes, faults memory or reports") {
  const test::ScratchFolder scratch;
  const auto go_on_for = [&](const std::function<void(int)>& work) {
    const auto [code, text] = in_child(scratch / "output", [&] {
      const Watchdog watchdog(scratch.path(), deadline, NodePages(0, 1));
      const auto start = Clock::now();
      for (int i = 0; std::chrono::duration<double>(Clock::now() - start).count() < 4 * deadline; ++i) work(i);
      _exit(0);
    });
    CHECK(has(text, ""));
    return code;
  };
  CHECK(go_on_for([](int) {
          std::ifstream file("/proc/self/exe");
          char byte = 0;
          file.read(&byte, 1);
        }) == 0);
  CHECK(go_on_for([](int) {
          void* fresh = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          *static_cast<volatile char*>(fresh) = 1;
          munmap(fresh, 1 << 16);
        }) == 0);
  CHECK(go_on_for([](int) { activity().enter_phase("forward"); }) == 0);
  CHECK(go_on_for([](int) {  // by another thread, while this one waits for it
          core::start_thread("caravan-test", [] {
            for (int i = 0; i < 100; ++i) {
              std::this_thread::sleep_for(std::chrono::milliseconds(10));
              test::write_text("/dev/null", "something");  // a disk may be busy for longer than the deadline
            }
          }).join();
        }) == 0);
}

TEST_CASE("a rank that works is reported in log and standard error, once per deadline") {
  constexpr int lines = 4;
  const test::ScratchFolder scratch;
  const auto begin = Clock::now();
  const auto [code, text] = in_child(scratch / "output", [&] {
    core::log_to_file((scratch / "log.txt").string());
    RankZero zero;
    const FileRank other(zero.folder, 1, /*beats=*/true, /*works=*/true);
    const auto watchdog = zero.start();
    zero.wait();
    const auto warned = [&] {
      const std::string log = test::read_text(scratch / "log.txt");
      return std::count(log.begin(), log.end(), '\n') >= lines;
    };
    if (!comes(warned)) _exit(2);
    _exit(std::chrono::duration<double>(Clock::now() - begin).count() >= lines * deadline ? 0 : 3);
  });
  CHECK(code == 0);
  CHECK(has(text, "warning: rank 1 (host n07) is late: it computes since "));
  CHECK(has(text, " in step 41, phase backward; rank 0 waits since "));
  CHECK(has(text, ", in \"sum loss\" (number 11 of group world). It is waited for, since it reads, writes"));
  const std::string log = test::read_text(scratch / "log.txt");
  CHECK(text.substr(0, log.size()) == log);  // which is written second
}

TEST_CASE("a standard error that nobody empties holds up neither watchdog nor verdict") {
  const test::ScratchFolder scratch;
  const test::FullPipe pipe;
  const auto [code, text] = in_child(scratch / "output", [&] {
    dup2(pipe.ends[1], STDERR_FILENO);
    alarm(static_cast<unsigned>(long_enough));
    RankZero zero;
    FileRank other(zero.folder, 1, /*beats=*/true, /*works=*/true);
    const auto watchdog = zero.start();
    zero.wait();
    // Several lines are due by then.
    if (!comes([] { return activity().patience() > Timing(deadline).patience + 4 * deadline; })) _exit(2);
    other.hang();
    _exit(comes([] { return activity().take_verdict().has_value(); }) ? 0 : 3);
  });
  CHECK(code == 0);
  CHECK(text.empty());
}

TEST_CASE("a main thread that hangs in a library does not keep the watchdog from ending it") {
  const test::ScratchFolder scratch;
  const auto [code, text] = in_child(scratch / "output", [&] {
    RankZero zero;
    const FileRank other(zero.folder, 1, /*beats=*/true);
    const auto watchdog = zero.start();
    zero.wait();
    spin();  // and does not look at the verdict
  });
  CHECK(code == 76);
  CHECK(has(text, "rank 1 (host n07) is late"));
}

TEST_CASE("a file system that does not answer holds up neither the verdict nor the end") {
  const test::ScratchFolder scratch;
  // From now on the watchdog's file is a pipe: whoever opens it to write waits for somebody who reads.
  const auto kill_files = [](const std::filesystem::path& folder) {
    const std::filesystem::path pipe = folder / "pipe";
    if (mkfifo(pipe.c_str(), 0600) != 0) _exit(1);
    std::filesystem::rename(pipe, folder / "rank-00000.json");
  };
  enum Hangs { nothing, before_the_watchdog_goes, after_it_has_gone };
  const auto throw_verdict = [&](Hangs hangs) {
    return [=] {
      alarm(static_cast<unsigned>(long_enough));
      RankZero zero;
      try {
        const Hanging after(hangs == after_it_has_gone);
        const auto watchdog = zero.start();
        const Hanging before(hangs == before_the_watchdog_goes);
        kill_files(zero.folder);
        zero.wait();
        if (!comes([] { return activity().has_verdict(); })) _exit(2);
        throw core::Error(core::ExitCode::peer_lost, activity().take_verdict().value());
      } catch (const core::Error& error) {
        core::leave_at_once(error.code(), error.what());
      }
    };
  };
  const auto alone = [&](const std::filesystem::path& folder, const std::function<void()>& then) {
    std::filesystem::create_directory(folder);
    return [=] {
      alarm(static_cast<unsigned>(long_enough));
      try {
        const Watchdog watchdog(folder, deadline, NodePages(0, 1));
        kill_files(folder);
        then();
      } catch (const core::Error&) {
        _exit(3);
      }
    };
  };
  // All at once: each waits several times for Timing::stack, 2 s.
  const std::vector<Child> thrown{{scratch / "0", throw_verdict(nothing)},
                                  {scratch / "1", throw_verdict(before_the_watchdog_goes)},
                                  {scratch / "2", throw_verdict(after_it_has_gone)}};
  const Child stuck(scratch / "5", alone(scratch / "stuck", [] {  // an error without a verdict
                      const Hanging before(true);
                      activity().fail("the others did not answer");
                      throw core::Error(core::ExitCode::peer_lost, "the others did not answer");
                    }));
  const Child quiet(scratch / "3", alone(scratch / "quiet", spin));
  const Child in_order(scratch / "4", alone(scratch / "in order", [] {
                         for (int i = 0; i < 50; ++i) {  // until the thread has come to the pipe
                           activity().enter_phase("work");
                           std::this_thread::sleep_for(std::chrono::milliseconds(20));
                         }
                       }));
  for (const Child& child : thrown) {
    const auto [code, text] = child.end();
    CHECK(code == 76);
    CHECK(has(text, "nothing is known of rank 1; rank 0 waits since"));
    CHECK(has(text, "The file system of " + scratch.path().string()));
    CHECK(text.find("nothing is known") == text.rfind("nothing is known"));
  }
  const auto [quiet_code, quiet_text] = quiet.end();
  CHECK(quiet_code == 76);
  CHECK(has(quiet_text, "none goes on: rank 0 (host "));
  CHECK(has(quiet_text, "stack of rank 0:\n" + innermost));
  const auto [stuck_code, stuck_text] = stuck.end();
  CHECK(stuck_code == 76);
  CHECK(stuck_text == "error: the others did not answer\n");
  const auto [code, text] = in_order.end();
  CHECK(code == 76);
  CHECK(text == "error: the file system of " + (scratch / "in order").string() + " does not answer\n");
}

TEST_CASE("time for which the process is stopped does not count") {
  constexpr double limit = 4;  // seconds
  // By the time that the sleeps take, of which one may be the time for which the process is stopped.
  const auto be_awake_for = [](double seconds) {
    while (seconds > 0) {
      const auto start = Clock::now();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      seconds -= std::min(limit / 10, std::chrono::duration<double>(Clock::now() - start).count());
    }
  };
  const test::ScratchFolder scratch;
  const pid_t child = fork();
  if (child == 0) {
    setenv("TMPDIR", scratch.path().c_str(), 1);  // what it leaves goes with the test's own folder
    RankZero zero;
    const FileRank other(zero.folder, 1, /*beats=*/true);
    const Watchdog watchdog(zero.folder, limit, NodePages(0, 2));
    zero.wait();
    // At most half of the limit of its own, of which the watchdog has seen some.
    be_awake_for(0.25);
    test::write_text(scratch / "ready", "");
    be_awake_for(1.75);
    _exit(activity().has_verdict() ? 76 : 0);
  }
  REQUIRE(comes([&] { return std::filesystem::exists(scratch / "ready"); }));
  kill(child, SIGSTOP);
  std::this_thread::sleep_for(std::chrono::duration<double>(1.5 * limit));
  kill(child, SIGCONT);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace caravan::watch
