// SPDX-License-Identifier: Apache-2.0
#include "run/slurm_job.hpp"

#include "tests/run/fake_slurm.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using Life = run::SlurmJob::Life;
using test::FakeSlurm;

TEST_CASE("what squeue says of a job decides whether it goes on") {
  const auto life_of = [](const std::string& script) {
    const FakeSlurm slurm(script);
    return run::ask_slurm("4711").life;
  };
  for (const char* state : {"RUNNING", "PENDING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD",
                            "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "A_STATE_OF_THE_FUTURE"}) {
    CAPTURE(state);
    CHECK(life_of(std::string("echo ") + state) == Life::goes_on);
  }
  for (const char* state : {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY",
                            "BOOT_FAIL", "DEADLINE"}) {
    CAPTURE(state);
    CHECK(life_of(std::string("echo ") + state) == Life::over);
  }
  CHECK(life_of("true") == Life::over);  // forgotten
  CHECK(life_of(FakeSlurm::not_known) == Life::over);
  CHECK(life_of(FakeSlurm::no_answer) == Life::unknown);
  CHECK(life_of("exit 127") == Life::unknown);
  CHECK(life_of("kill -9 $$") == Life::unknown);
  CHECK(life_of("echo COMPLETED; echo RUNNING; echo FAILED") == Life::goes_on);  // a job array
}

TEST_CASE("squeue is asked for one job of this cluster, whatever a user has set for squeue") {
  const FakeSlurm slurm("env | grep -q '^SQUEUE_\\|^SLURM_CLUSTERS=' || echo RUNNING");
  const test::Variable states("SQUEUE_STATES", "FAILED"), clusters("SLURM_CLUSTERS", "other");
  const run::SlurmJob job = run::ask_slurm("4711_3+1");
  CHECK(job.life == Life::goes_on);
  CHECK(job.state == "RUNNING");
  CHECK(slurm.asked() == "-h -t all -j 4711_3+1 -o %T\n");
}

TEST_CASE("a text that is no job id goes to no program") {
  const FakeSlurm slurm("echo FAILED");
  for (const char* text : {"", "1; touch /tmp/x", "$(id)", "--help", "1 2", "1,2", "_1", "+", "1\n", "12a"}) {
    CAPTURE(text);
    CHECK(run::ask_slurm(text).life == Life::unknown);
  }
  CHECK(slurm.asked().empty());
}
