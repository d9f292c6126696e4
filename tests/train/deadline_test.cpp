// SPDX-License-Identifier: Apache-2.0
#include "train/deadline.hpp"

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

}  // namespace caravan::tests
