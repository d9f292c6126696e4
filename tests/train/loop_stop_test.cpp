// SPDX-License-Identifier: Apache-2.0
// When the loop saves at other steps than those that are due, and when it stops before the last one: skipped steps,
// time, signals.
#include <ATen/core/Tensor.h>  // before Catch: both have a macro CHECK

#include "core/stop_request.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/train/loop_run.hpp"

namespace caravan::tests {

TEST_CASE("a save that is due in a row of skipped steps is made after the next update") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().back().first, two_layouts().back().second);
  Run run(grid, data.file);
  run.poisoned_after = 2;
  run.healed_after = 4;
  CHECK(run.go(2, 0) == train::Ended::finished);
  CHECK(run.progress.skipped == 2);
  CHECK(run.saves == Steps{2, 5, 6});
  CHECK(run.doubts.empty());
  // The last one cannot be put off, but no older one may go for it.
  Run until_the_end(grid, data.file);
  until_the_end.poisoned_after = 3;
  CHECK(until_the_end.go(2, 0) == train::Ended::finished);
  CHECK(until_the_end.saves == Steps{2, 6});
  CHECK(until_the_end.doubts == Steps{6});
}

TEST_CASE("the last save is begun while there is time for it") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run run(grid, data.file);
  run.polls = 1;
  // The end lies far away for rank 0 alone, which decides.
  const double now = train::unix_seconds();
  const bool first = grid.context.grid.rank() == 0;
  run.deadline = {first ? now + 10000 : now, 5, 1};
  CHECK(run.go(0, 0) == train::Ended::finished);

  // Before the first step there must be time for a save and the margin: there is; after it there is none for another.
  Run one(grid, data.file);
  one.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 1};
  one.deadline.stepped(998);
  CHECK(one.go(0, 0) == train::Ended::stopped);
  CHECK(one.progress.step == 1);
  CHECK(one.saves == Steps{1});
  CHECK_FALSE(one.begun);

  Run none(grid, data.file);
  none.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 996};
  test::expect_error(core::ExitCode::internal, {"the time limit is too short for start + one step", "996.00 s"},
                     [&] { none.go(0, 0); });
  CHECK(none.saves.empty());

  // There is time for one save, and another would have to follow the one that is due after step 1.
  Run due(grid, data.file);
  due.polls = 10;
  due.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 600};
  CHECK(due.go(1, 0) == train::Ended::stopped);
  CHECK(due.saves == Steps{1});

  // Two stages of 200 s: that the save of step 1 took as long is known after step 2, when that of step 2 is begun, and
  // then there is no time for that one, another and step 3's evaluation, which is given up.
  Run evaluating(grid, data.file);
  evaluating.polls = 1;
  evaluating.write_seconds = 200;
  evaluating.deadline = {first ? std::optional(now + 700) : std::nullopt, 5, 1};
  CHECK(evaluating.go(1, 3) == train::Ended::stopped);
  CHECK(evaluating.evaluations == Steps{3});
  CHECK(evaluating.saves == Steps{1, 2, 3});
  CHECK_FALSE(evaluating.losses.at(3));
  CHECK(evaluating.commits == Steps{2, 3, 3});

  // Likewise, and when that of step 2 counts there is no time for a third one.
  Run slow(grid, data.file);
  slow.polls = 1;
  slow.write_seconds = 600;
  slow.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 1};
  CHECK(slow.go(1, 0) == train::Ended::stopped);
  CHECK(slow.progress.step == 3);
  CHECK(slow.saves == Steps{1, 2});
  CHECK_FALSE(slow.begun);

  // And when that of step 4 counts, none that is known to take longer than what is left is begun after step 5.
  Run counted(grid, data.file);
  counted.write_seconds = 600;
  counted.deadline = {first ? std::optional(now + 500) : std::nullopt, 5, 1};
  CHECK(counted.go(4, 0) == train::Ended::stopped);
  CHECK(counted.progress.step == 5);
  CHECK(counted.saves == Steps{4});
}

TEST_CASE("a save is due when the newest one began long enough ago") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run always(grid, data.file);
  // Any two boundaries are further apart than this, by the clock of rank 0, which decides.
  always.save_seconds = grid.context.grid.rank() == 0 ? 1e-9 : 1e9;
  CHECK(always.go(4, 0) == train::Ended::finished);
  CHECK(always.saves == Steps{1, 2, 3, 4, 5, 6});
  Run never(grid, data.file);
  never.save_seconds = grid.context.grid.rank() == 0 ? 1e9 : 1e-9;
  CHECK(never.go(4, 0) == train::Ended::finished);
  CHECK(never.saves == Steps{4, 6});
}

// The last test case of the program: a signal that came stays for the rest of the process.
TEST_CASE("the loop stops together after a signal") {
  start_kernels();
  const Data data;
  const core::StopRequest stop_request("it was too short");
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run stopped(grid, data.file);
  stopped.polls = 4;  // the save of step 2 is under way when the signal comes
  stopped.stop_at = 3;
  CHECK(stopped.go(2, 0) == train::Ended::stopped);
  CHECK(stopped.saves == Steps{2, 3});
  CHECK(stopped.commits == Steps{3, 3});
  CHECK(stopped.progress.step == 3);

  // Now that there is one: before the first step nothing is done.
  Run none(grid, data.file);
  test::expect_error(core::ExitCode::internal, {"stopped by signal 10: it was too short"}, [&] { none.go(1, 0); });
  CHECK(none.progress.step == 0);
  CHECK(none.saves.empty());
}

}  // namespace caravan::tests
