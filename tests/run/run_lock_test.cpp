// SPDX-License-Identifier: Apache-2.0
#include "run/run_lock.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/host_name.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/run/fake_slurm.hpp"

using namespace caravan;
using namespace std::chrono_literals;

namespace {

constexpr run::RunLockTimes quick{.heartbeat = 5ms, .longest_wait = 300ms};

// The job id that this process seems to have, for a scope.
struct JobId : test::Variable {
  explicit JobId(const char* id) : Variable("SLURM_JOB_ID", id) {}
};

std::string this_host() { return core::host_name(); }

nlohmann::json held_by(const std::string& job, const std::string& host, std::int64_t pid, std::int64_t heartbeat) {
  return {{"job", job}, {"restart", 0}, {"host", host}, {"pid", pid}, {"heartbeat", heartbeat}};
}

// In one go, as locks come: the thread of a lock that is there may look at any time.
void write_lock(const test::ScratchFolder& folder, const nlohmann::json& holder) {
  test::write_text(folder / "lock.new", holder.dump() + "\n");
  std::filesystem::rename(folder / "lock.new", folder / "lock");
}

nlohmann::json read_lock(const test::ScratchFolder& folder) {
  return nlohmann::json::parse(test::read_text(folder / "lock"));
}

// While it may be half written: overwritten in place, so that a new lock would be missed.
void spoil(const test::ScratchFolder& folder) {
  std::fstream(folder / "lock", std::ios::in | std::ios::out) << R"({"heartbeat":     5)";
}
bool is_renewed(const test::ScratchFolder& folder) {
  const auto found = nlohmann::json::parse(test::read_text(folder / "lock"), nullptr, false);
  return found.is_object() && std::abs(found["heartbeat"].get<std::int64_t>() - std::time(nullptr)) < 100;
}

bool comes(const std::function<bool()>& what) {
  const auto start = std::chrono::steady_clock::now();
  while (!what()) {
    if (std::chrono::steady_clock::now() - start > 30s) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

bool has_lost(run::RunLock& lock) {
  try {
    lock.refresh();
    return false;
  } catch (const core::Error&) {
    return true;
  }
}

bool is_ours(run::RunLock& lock) {
  try {
    lock.require_ours();
    return true;
  } catch (const core::Error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("a lock says who holds it and goes with its holder") {
  const test::ScratchFolder folder;
  const JobId job("4711");
  {
    run::RunLock lock(folder.path());
    const auto holder = nlohmann::json::parse(test::read_text(folder / "lock"));
    CHECK(holder["job"] == "4711");
    CHECK(holder["host"] == this_host());
    CHECK(holder["pid"] == ::getpid());
    CHECK(std::abs(holder["heartbeat"].get<std::int64_t>() - std::time(nullptr)) < 100);
    lock.refresh();
  }
  CHECK_FALSE(std::filesystem::exists(folder / "lock"));
}

TEST_CASE("a second run in the folder is refused") {
  const test::ScratchFolder folder;
  std::optional<JobId> job("1");
  const run::RunLock lock(folder.path());
  job.reset();
  job.emplace("2");
  test::expect_error(core::ExitCode::bad_input,
                     {folder.path().string(), this_host(), std::to_string(::getpid()), "job 1"},
                     [&] { run::RunLock second(folder.path()); });
  CHECK(std::filesystem::exists(folder / "lock"));
}

TEST_CASE("without Slurm two processes are not the same job") {
  const test::ScratchFolder folder;
  const run::RunLock lock(folder.path());
  test::expect_error(core::ExitCode::bad_input, {"outside of Slurm"}, [&] { run::RunLock second(folder.path()); });
}

TEST_CASE("the lock of a process that died on this host is taken over") {
  const test::ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const run::RunLock lock(folder.path());
    ::_exit(0);  // without the destructor, as after SIGKILL
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(std::filesystem::exists(folder / "lock"));
  CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == child);
  const run::RunLock lock(folder.path());
  CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == ::getpid());
}

TEST_CASE("a process that was killed but not yet waited for has died") {
  const test::ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const run::RunLock lock(folder.path());
    ::_exit(0);
  }
  siginfo_t ended{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);  // it stays a zombie
  {
    const run::RunLock lock(folder.path());
    CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == ::getpid());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
}

TEST_CASE("a run that lost its lock stops and leaves the new holder's lock") {
  const test::ScratchFolder folder;
  {
    run::RunLock lock(folder.path(), quick);
    lock.refresh();
    lock.require_ours();
    write_lock(folder, held_by("99", "elsewhere", 321, std::time(nullptr)));
    REQUIRE(comes([&] { return has_lost(lock); }));
    test::expect_error(core::ExitCode::peer_lost, {"elsewhere", "321", "99", "no longer this run's"},
                       [&] { lock.refresh(); });
    test::expect_error(core::ExitCode::peer_lost, {"no longer this run's"}, [&] { lock.require_ours(); });
  }
  CHECK(read_lock(folder)["job"] == "99");
}

TEST_CASE("what must not happen to another run's folder asks at once") {
  const test::ScratchFolder folder;
  run::RunLock lock(folder.path());  // a heartbeat every ten seconds
  lock.require_ours();
  SECTION("taken over") { write_lock(folder, held_by("99", "elsewhere", 321, std::time(nullptr))); }
  SECTION("removed") { std::filesystem::remove(folder / "lock"); }
  CHECK_FALSE(has_lost(lock));  // else this tests nothing
  test::expect_error(core::ExitCode::peer_lost, {"no longer this run's"}, [&] { lock.require_ours(); });
  CHECK(has_lost(lock));
}

TEST_CASE("a lock that another start has moved aside and puts back was never lost") {
  const test::ScratchFolder folder;
  run::RunLock lock(folder.path());
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::filesystem::rename(folder / "lock", folder / "aside");
    const auto start = std::chrono::steady_clock::now();
    auto back = start;
    std::jthread other([&] {
      std::this_thread::sleep_for(20ms);
      std::filesystem::rename(folder / "aside", folder / "lock");
      back = std::chrono::steady_clock::now();
    });
    const bool lost = !is_ours(lock);
    other.join();
    if (back - start > 150ms) continue;  // the lock gives it 200 ms; a busy disk may need more
    CHECK_FALSE(lost);
    return;
  }
  FAIL("no rename was done in 150 ms");
}

TEST_CASE("a run whose lock was gone for a while and is there again goes on with it") {
  const test::ScratchFolder folder;
  run::RunLock lock(folder.path(), quick);
  std::filesystem::rename(folder / "lock", folder / "aside");
  REQUIRE(comes([&] { return has_lost(lock); }));
  std::filesystem::rename(folder / "aside", folder / "lock");
  CHECK_FALSE(has_lost(lock));
  lock.require_ours();
  spoil(folder);
  CHECK(comes([&] { return is_renewed(folder); }));
}

TEST_CASE("the heartbeat goes on whatever the process does, in place") {
  const test::ScratchFolder folder;
  const run::RunLock lock(folder.path(), quick);
  const auto size = std::filesystem::file_size(folder / "lock");
  for (int i = 0; i < 3; ++i) {
    spoil(folder);
    REQUIRE(comes([&] { return is_renewed(folder); }));
    CHECK(std::filesystem::file_size(folder / "lock") == size);
  }
}

TEST_CASE("a run that was suspended learns at its next step that another took its folder") {
  const test::ScratchFolder folder;
  std::array<int, 2> go{};
  REQUIRE(::pipe(go.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    run::RunLock lock(folder.path(), {.heartbeat = 50ms});
    lock.refresh();
    test::write_text(folder / "begun", "");
    char byte = 0;
    [[maybe_unused]] const ssize_t size = ::read(go[0], &byte, 1);  // here it is stopped
    int code = 0;
    try {
      lock.refresh();
    } catch (const core::Error& error) {
      code = static_cast<int>(error.code());
    }
    ::_exit(code);
  }
  REQUIRE(comes([&] { return std::filesystem::exists(folder / "begun"); }));
  REQUIRE(::kill(child, SIGSTOP) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, WUNTRACED) == child);
  write_lock(folder, held_by("99", "elsewhere", 321, std::time(nullptr)));
  std::this_thread::sleep_for(400ms);  // twice 50 ms and the 200 ms for a lock that is put back
  REQUIRE(::write(go[1], "x", 1) == 1);
  REQUIRE(::kill(child, SIGCONT) == 0);
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 76);
  CHECK(read_lock(folder)["job"] == "99");
  ::close(go[0]);
  ::close(go[1]);
}

TEST_CASE("a heartbeat that cannot be written is reported once and ends nothing") {
  const test::ScratchFolder folder;
  std::fflush(stdout);  // what the test's own report still holds would come out of the child
  const pid_t child = ::fork();
  if (child == 0) {
    const int output = ::open((folder / "output").c_str(), O_WRONLY | O_CREAT, 0600);
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0 || ::dup2(pipe[1], STDOUT_FILENO) < 0) ::_exit(3);  // what is no file has no limit
    ::signal(SIGXFSZ, SIG_IGN);
    run::RunLock lock(folder.path(), quick);
    const rlimit none{0, RLIM_INFINITY}, all{RLIM_INFINITY, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_FSIZE, &none) != 0) ::_exit(3);
    pollfd warning{pipe[0], POLLIN, 0};
    if (::poll(&warning, 1, 60'000) != 1) ::_exit(4);
    std::this_thread::sleep_for(200ms);  // many heartbeats more
    lock.refresh();
    lock.require_ours();
    ::setrlimit(RLIMIT_FSIZE, &all);
    std::array<char, 4096> text{};
    const ssize_t size = ::read(pipe[0], text.data(), text.size());
    if (size <= 0 || ::write(output, text.data(), static_cast<std::size_t>(size)) != size) ::_exit(6);
    spoil(folder);
    ::_exit(comes([&] { return is_renewed(folder); }) ? 0 : 5);  // and it goes on when it can again
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  const std::string output = test::read_text(folder / "output");
  CHECK(output.starts_with("warning: the heartbeat of this run's lock fails: cannot write " +
                           (folder / "lock").string()));
  CHECK(std::count(output.begin(), output.end(), '\n') == 1);
}

TEST_CASE("who takes over a lock of another host") {
  const test::ScratchFolder folder;
  const test::FakeSlurm slurm(test::FakeSlurm::no_answer);
  const std::int64_t now = std::time(nullptr);
  const JobId job("8");
  SECTION("another job after five minutes of silence") {
    write_lock(folder, held_by("7", "elsewhere", 1, now - 1000));
    const run::RunLock lock(folder.path());
    CHECK(read_lock(folder)["job"] == "8");
  }
  SECTION("not before") {
    write_lock(folder, held_by("7", "elsewhere", 12345, now - 100));
    test::expect_error(core::ExitCode::bad_input,
                       {"elsewhere", "12345", "job 7", folder.path().string(), "wait 5 minutes after it died"},
                       [&] { run::RunLock lock(folder.path()); });
    CHECK(read_lock(folder)["pid"] == 12345);
  }
  SECTION("the same job, which was queued again") {
    const test::Variable again("SLURM_RESTART_COUNT", "1");
    write_lock(folder, held_by("8", "elsewhere", 1, now));
    const run::RunLock lock(folder.path());
    CHECK(read_lock(folder)["host"] == this_host());
    CHECK(read_lock(folder)["restart"] == 1);
  }
  SECTION("the same job, once the heartbeat has stopped") {
    write_lock(folder, held_by("8", "elsewhere", 1, now - 29));
    const auto start = std::chrono::steady_clock::now();
    const run::RunLock lock(folder.path());
    CHECK(std::chrono::steady_clock::now() - start > 100ms);  // it had to wait for at least the next second but one
    CHECK(read_lock(folder)["host"] == this_host());
  }
  SECTION("a lock that is just being made counts as alive") {
    test::write_text(folder / "lock", "");
    test::expect_error(core::ExitCode::bad_input, {"unknown host"}, [&] { run::RunLock lock(folder.path()); });
  }
}

TEST_CASE("a second start in the same job waits a while for the first, and can be stopped") {
  const test::ScratchFolder folder;
  const JobId job("8");
  std::optional<run::RunLock> first(std::in_place, folder.path());
  SECTION("which runs on") {
    test::expect_error(core::ExitCode::peer_lost, {folder.path().string(), "job 8", "that process runs"},
                       [&] { run::RunLock second(folder.path(), quick); });
    first->require_ours();
  }
  SECTION("which ends") {
    const std::jthread end([&] {
      std::this_thread::sleep_for(50ms);
      first.reset();
    });
    const run::RunLock second(folder.path());
  }
  SECTION("until a signal comes") {
    const pid_t child = ::fork();
    if (child == 0) {  // which the signal stays with
      const core::StopRequest stop("nothing was finished");
      ::raise(SIGTERM);
      int code = 0;
      try {
        const run::RunLock second(folder.path());
      } catch (const core::Error& error) {
        code = static_cast<int>(error.code());
      }
      ::_exit(code);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 70);
  }
}

TEST_CASE("of many processes that start at once exactly one gets the lock") {
  for (const bool stale : {false, true}) {
    const test::ScratchFolder folder;
    if (stale) write_lock(folder, held_by("", "elsewhere", 1, std::time(nullptr) - 1000));
    std::array<int, 2> gate{};
    REQUIRE(::pipe(gate.data()) == 0);
    constexpr int processes = 6;
    std::array<pid_t, processes> children{};
    for (pid_t& child : children) {
      child = ::fork();
      if (child != 0) continue;
      ::close(gate[1]);
      char byte = 0;
      [[maybe_unused]] const ssize_t end = ::read(gate[0], &byte, 1);  // until the parent opens the gate
      int result = 1;
      try {
        const run::RunLock lock(folder.path());
        while (!std::filesystem::exists(folder / "all-have-tried")) ::usleep(1000);
        result = 0;
        ::_exit(result);
      } catch (const core::Error&) {
        ::_exit(result);
      }
    }
    ::close(gate[0]);
    ::close(gate[1]);
    int refused = 0;
    int status = 0;
    while (refused < processes - 1 && ::waitpid(-1, &status, 0) > 0) refused += WEXITSTATUS(status) == 1 ? 1 : 0;
    test::write_text(folder / "all-have-tried", "");
    REQUIRE(::waitpid(-1, &status, 0) > 0);
    CHECK(refused == processes - 1);
    CHECK(WEXITSTATUS(status) == 0);
  }
}
