// SPDX-License-Identifier: Apache-2.0
#include "run/lock_verdict.hpp"

#include <unistd.h>

#include "tests/run/fake_slurm.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using run::LockHolder;
using Kind = run::LockVerdict::Kind;
using test::FakeSlurm;

namespace {

const LockHolder us{.cluster = "alpha", .job = "8", .host = "here", .machine = "boot", .pid = 77, .heartbeat = 100'000};

// On another host, silent for so long.
LockHolder elsewhere(const std::string& job, std::int64_t silence) {
  return {.cluster = "alpha",
          .job = job,
          .host = "elsewhere",
          .machine = "other",
          .pid = 1,
          .heartbeat = 100'000 - silence};
}

Kind verdict(const LockHolder& holder, const LockHolder& self = us) {
  return run::LockJudge().judge(holder, self).kind;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("on one machine the process decides, whatever the job") {
  const FakeSlurm slurm(FakeSlurm::not_known);
  const LockHolder self = run::this_process();
  const LockHolder parent = [&] {
    LockHolder holder = self;
    holder.pid = ::getppid();
    holder.started = 0;  // as another version may write it
    holder.heartbeat -= 100'000;
    return holder;
  }();
  CHECK(verdict(parent, self) == Kind::refuse);
  for (const auto& [job, restart] : {std::pair("7", 0), std::pair("8", 0), std::pair("8", 1)}) {
    LockHolder mine = self, theirs = parent;
    mine.job = us.job;
    mine.restart = restart;
    theirs.job = job;
    CAPTURE(job, restart);
    CHECK(verdict(theirs, mine) == (mine.job == theirs.job ? Kind::wait : Kind::refuse));
    theirs.heartbeat = mine.heartbeat;
    theirs.pid = 999'999'999;  // beyond the kernel's largest
    CHECK(verdict(theirs, mine) == Kind::take_over);
  }
  CHECK(slurm.asked().empty());
}

TEST_CASE("a process whose number another one has now has ended") {
  LockHolder self = run::this_process();
  REQUIRE(self.started > 0);
  REQUIRE_FALSE(self.machine.empty());
  LockHolder former = self;
  CHECK(verdict(former, self) == Kind::refuse);
  former.started -= 1;
  CHECK(verdict(former, self) == Kind::take_over);
}

TEST_CASE("a host of the same name that numbers processes otherwise is another machine") {
  const FakeSlurm slurm(FakeSlurm::no_answer);
  LockHolder self = run::this_process(), other = self;
  other.machine = "another boot, or a container";
  other.pid = 999'999'999;
  CHECK(verdict(other, self) == Kind::refuse);
  other.heartbeat -= 301;
  CHECK(verdict(other, self) == Kind::take_over);
  other.machine.clear();  // as an earlier version leaves it
  other.heartbeat = self.heartbeat;
  CHECK(verdict(other, self) == Kind::take_over);
}

TEST_CASE("the same job on another host takes over when requeued or the holder is silent") {
  const FakeSlurm slurm("echo RUNNING");
  CHECK(verdict(elsewhere("8", 0)) == Kind::wait);
  CHECK(verdict(elsewhere("8", 30)) == Kind::wait);
  CHECK(verdict(elsewhere("8", 31)) == Kind::take_over);
  LockHolder again = us;
  again.restart = 1;
  CHECK(verdict(elsewhere("8", 0), again) == Kind::take_over);
  LockHolder newer = elsewhere("8", 0);
  newer.restart = 2;
  CHECK(verdict(newer, again) == Kind::refuse);  // we are what Slurm believes to have ended
  newer.heartbeat -= 31;
  CHECK(verdict(newer, again) == Kind::refuse);
  newer.heartbeat -= 270;
  CHECK(verdict(newer, again) == Kind::take_over);
  LockHolder other_cluster = elsewhere("8", 31);
  other_cluster.cluster = "beta";
  CHECK(verdict(other_cluster) == Kind::refuse);
  CHECK(slurm.asked().empty());
}

TEST_CASE("what squeue says of another job decides") {
  SECTION("a job that goes on holds the folder, however silent") {
    for (const char* state : {"RUNNING", "SUSPENDED", "PENDING"}) {
      const FakeSlurm slurm(std::string("echo ") + state);
      const run::LockVerdict found = run::LockJudge().judge(elsewhere("7", 90'000), us);
      CHECK(found.kind == Kind::refuse);
      CHECK(has(found.why, std::string("that job is ") + state));
      CHECK(has(found.why, "it will run again and go on in this folder") == (std::string(state) == "PENDING"));
      CHECK(has(found.advice, "scancel 7"));
    }
  }
  SECTION("one that is over does not, once its heartbeat has stopped") {
    for (const char* script : {"echo COMPLETED", "true", FakeSlurm::not_known}) {
      const FakeSlurm slurm(script);
      CHECK(verdict(elsewhere("7", 31)) == Kind::take_over);
      CHECK(verdict(elsewhere("7", 30)) == Kind::wait);
    }
  }
  SECTION("without an answer five minutes of silence do") {
    const FakeSlurm slurm(FakeSlurm::no_answer);
    CHECK(verdict(elsewhere("7", 300)) == Kind::refuse);
    CHECK(verdict(elsewhere("7", 301)) == Kind::take_over);
  }
  SECTION("another cluster's job is not asked for, nor is what is no job id") {
    const FakeSlurm slurm(FakeSlurm::not_known);
    LockHolder other_cluster = elsewhere("7", 300);
    other_cluster.cluster = "beta";
    CHECK(verdict(other_cluster) == Kind::refuse);
    CHECK(verdict(elsewhere("7; true", 300)) == Kind::refuse);
    CHECK(verdict(elsewhere("", 300)) == Kind::refuse);
    CHECK(slurm.asked().empty());
  }
  SECTION("squeue is asked once") {
    const FakeSlurm slurm("echo COMPLETED");
    run::LockJudge judge;
    for (int i = 0; i < 3; ++i) CHECK(judge.judge(elsewhere("7", 30), us).kind == Kind::wait);
    CHECK(slurm.asked() == "-h -t all -j 7 -o %T\n");
  }
}

TEST_CASE("a task of a job array is called as squeue calls it") {
  const test::Variable job("SLURM_JOB_ID", "12");
  CHECK(run::this_process().job == "12");
  const test::Variable array("SLURM_ARRAY_JOB_ID", "12");
  const test::Variable task("SLURM_ARRAY_TASK_ID", "3");
  CHECK(run::this_process().job == "12_3");
}

TEST_CASE("a holder survives its text") {
  LockHolder holder = run::this_process();
  holder.job = "12_3";
  holder.cluster = "alpha";
  holder.restart = 4;
  const test::ScratchFolder folder;
  test::write_text(folder / "lock", run::to_text(holder));
  const LockHolder found = *run::read_lock_holder(folder / "lock");
  CHECK(run::to_text(found) == run::to_text(holder));
  CHECK(found.pid == ::getpid());
  CHECK(found.started == holder.started);
  test::write_text(folder / "lock", R"({"job": 5, "pid": "x", "restart": "1", "host": "h", "heartbeat": 9})");
  const LockHolder odd = *run::read_lock_holder(folder / "lock");
  CHECK(odd.job.empty());
  CHECK(odd.pid == 0);
  CHECK(odd.restart == 0);
  CHECK(odd.host == "h");
  CHECK(odd.heartbeat == 9);
}
