// SPDX-License-Identifier: Apache-2.0
#include "run/end_of_job.hpp"

#include <cstdlib>

#include "tests/io/expect_error.hpp"

using namespace caravan;

TEST_CASE("the end of the job comes from the environment") {
  unsetenv("CARAVAN_END_TIME");
  unsetenv("SLURM_JOB_END_TIME");
  CHECK_FALSE(run::end_of_job());
  setenv("SLURM_JOB_END_TIME", "1900000000", 1);
  CHECK(run::end_of_job() == 1900000000);
  setenv("CARAVAN_END_TIME", "1800000000", 1);
  CHECK(run::end_of_job() == 1800000000);
  for (const char* wrong : {"soon", "1800000000 s", "-5", "0", "nan"}) {
    setenv("CARAVAN_END_TIME", wrong, 1);
    test::expect_error(core::ExitCode::bad_input, {"CARAVAN_END_TIME", wrong}, [] { run::end_of_job(); });
  }
  setenv("CARAVAN_END_TIME", "", 1);
  setenv("SLURM_JOB_END_TIME", "Unknown", 1);
  CHECK_FALSE(run::end_of_job());
  unsetenv("CARAVAN_END_TIME");
  unsetenv("SLURM_JOB_END_TIME");
}
