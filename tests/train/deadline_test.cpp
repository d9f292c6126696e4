// SPDX-License-Identifier: Apache-2.0
#include "train/deadline.hpp"

#include <cstdlib>

#include "tests/io/expect_error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::tests {

TEST_CASE("a deadline counts steps, saves and the margin") {
  train::Deadline deadline(1000, 60, 30);
  CHECK(deadline.fits(10, false, 900));
  CHECK_FALSE(deadline.fits(10.5, false, 900));
  CHECK(deadline.fits(10, true, 870));
  CHECK_FALSE(deadline.fits(10.5, true, 870));
  deadline.saved(2);  // measured: the assumption is forgotten
  CHECK(deadline.save() == 2);
  deadline.saved(5);
  deadline.saved(3);
  CHECK(deadline.save() == 5);
  deadline.stepped(4);
  deadline.stepped(2);
  CHECK(deadline.longest_step() == 4);
  CHECK(deadline.fits(4, false, 931));
  CHECK_FALSE(deadline.fits(4, false, 931.5));
  CHECK(train::Deadline().fits(1e9, true, 1e12));

  // What a save has taken that is not ready counts as soon as it is more.
  deadline.saving(4.5);
  CHECK(deadline.save() == 5);
  deadline.saving(7);
  CHECK(deadline.save() == 7);
  CHECK_FALSE(deadline.fits(4, false, 931));
  // The margin is there to be used in the end.
  CHECK(deadline.fits_save(993));
  CHECK_FALSE(deadline.fits_save(993.5));
  CHECK(train::Deadline().fits_save(1e12));
}

TEST_CASE("the end of the job comes from the environment") {
  unsetenv("CARAVAN_END_TIME");
  unsetenv("SLURM_JOB_END_TIME");
  CHECK_FALSE(train::end_of_job());
  setenv("SLURM_JOB_END_TIME", "1900000000", 1);
  CHECK(train::end_of_job() == 1900000000);
  setenv("CARAVAN_END_TIME", "1800000000", 1);
  CHECK(train::end_of_job() == 1800000000);
  for (const char* wrong : {"soon", "1800000000 s", "-5", "0", "nan"}) {
    setenv("CARAVAN_END_TIME", wrong, 1);
    test::expect_error(core::ExitCode::bad_input, {"CARAVAN_END_TIME", wrong}, [] { train::end_of_job(); });
  }
  setenv("CARAVAN_END_TIME", "", 1);
  setenv("SLURM_JOB_END_TIME", "Unknown", 1);
  CHECK_FALSE(train::end_of_job());
  unsetenv("CARAVAN_END_TIME");
  unsetenv("SLURM_JOB_END_TIME");
}

}  // namespace caravan::tests
