// SPDX-License-Identifier: Apache-2.0
#include "io/run_lock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;

namespace {

// The job id that this process seems to have, for a scope.
class JobId {
 public:
  explicit JobId(const char* id) { ::setenv("SLURM_JOB_ID", id, 1); }
  ~JobId() { ::unsetenv("SLURM_JOB_ID"); }
};

std::string this_host() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

nlohmann::json held_by(const std::string& job, const std::string& host, std::int64_t pid, std::int64_t heartbeat) {
  return {{"job", job}, {"restart", ""}, {"host", host}, {"pid", pid}, {"heartbeat", heartbeat}};
}

void write_lock(const test::ScratchFolder& folder, const nlohmann::json& holder) {
  test::write_text(folder / "lock", holder.dump() + "\n");
}

}  // namespace

TEST_CASE("a lock says who holds it and goes with its holder") {
  const test::ScratchFolder folder;
  const JobId job("4711");
  {
    io::RunLock lock(folder.path());
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
  const io::RunLock lock(folder.path());
  job.reset();
  job.emplace("2");
  test::expect_error(core::ExitCode::bad_input,
                     {folder.path().string(), this_host(), std::to_string(::getpid()), "job 1"},
                     [&] { io::RunLock second(folder.path()); });
  CHECK(std::filesystem::exists(folder / "lock"));
}

TEST_CASE("without Slurm two processes are not the same job") {
  const test::ScratchFolder folder;
  const io::RunLock lock(folder.path());
  test::expect_error(core::ExitCode::bad_input, {"outside of Slurm"}, [&] { io::RunLock second(folder.path()); });
}

TEST_CASE("the lock of a process that died on this host is taken over") {
  const test::ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const io::RunLock lock(folder.path());
    ::_exit(0);  // without the destructor, as after SIGKILL
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(std::filesystem::exists(folder / "lock"));
  CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == child);
  const io::RunLock lock(folder.path());
  CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == ::getpid());
}

TEST_CASE("a process that was killed but not yet waited for has died") {
  const test::ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const io::RunLock lock(folder.path());
    ::_exit(0);
  }
  siginfo_t ended{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);  // it stays a zombie
  {
    const io::RunLock lock(folder.path());
    CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["pid"] == ::getpid());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
}

TEST_CASE("a run that lost its lock stops and leaves the new holder's lock") {
  const test::ScratchFolder folder;
  {
    io::RunLock lock(folder.path(), std::chrono::seconds(0));
    lock.refresh();
    std::filesystem::remove(folder / "lock");
    write_lock(folder, held_by("99", "elsewhere", 321, std::time(nullptr)));
    test::expect_error(core::ExitCode::bad_input, {"elsewhere", "321", "99", "no longer this run's"},
                       [&] { lock.refresh(); });
  }
  CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["job"] == "99");
}

TEST_CASE("refreshing renews the heartbeat in place") {
  const test::ScratchFolder folder;
  io::RunLock lock(folder.path(), std::chrono::seconds(0));
  const std::string text = test::read_text(folder / "lock");
  auto aged = nlohmann::json::parse(text);
  aged["heartbeat"] = 5;
  std::ofstream(folder / "lock", std::ios::in | std::ios::out) << aged.dump();
  lock.refresh();
  const std::string renewed = test::read_text(folder / "lock");
  CHECK(renewed.size() == text.size());
  CHECK(std::abs(nlohmann::json::parse(renewed)["heartbeat"].get<std::int64_t>() - std::time(nullptr)) < 100);
}

TEST_CASE("who may take over a lock of another host") {
  const test::ScratchFolder folder;
  const std::int64_t now = std::time(nullptr);
  SECTION("the same job, at once") {
    const JobId job("7");
    write_lock(folder, held_by("7", "elsewhere", 1, now));
    const io::RunLock lock(folder.path());
    CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["host"] == this_host());
  }
  SECTION("another job after five minutes of silence") {
    const JobId job("8");
    write_lock(folder, held_by("7", "elsewhere", 1, now - 1000));
    const io::RunLock lock(folder.path());
    CHECK(nlohmann::json::parse(test::read_text(folder / "lock"))["job"] == "8");
  }
  SECTION("another job not before") {
    const JobId job("8");
    write_lock(folder, held_by("7", "elsewhere", 12345, now - 100));
    test::expect_error(core::ExitCode::bad_input, {"elsewhere", "12345", "job 7", folder.path().string()},
                       [&] { io::RunLock lock(folder.path()); });
  }
  SECTION("a lock that is just being made counts as alive") {
    test::write_text(folder / "lock", "");
    test::expect_error(core::ExitCode::bad_input, {"unknown host"}, [&] { io::RunLock lock(folder.path()); });
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
        const io::RunLock lock(folder.path());
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
