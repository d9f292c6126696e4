// SPDX-License-Identifier: Apache-2.0
// A program of its own: a signal that came stays with its process.
#include "run/early_stop.hpp"

#include <csignal>

#include "core/stop_request.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

TEST_CASE("stopped-early tells of a signal that any rank got, until the next start") {
  const test::SharedFolder shared;
  const auto& world = shared.world;
  const std::filesystem::path& run = shared.folder;
  const std::filesystem::path file = run / "stopped-early";
  run::note_early_stop(*world, run);
  world->barrier("noted");
  CHECK_FALSE(std::filesystem::exists(file));  // nobody was asked to stop

  const core::StopRequest stop("nothing was finished");
  if (world->rank() == world->size() - 1) ::raise(SIGUSR1);
  run::note_early_stop(*world, {});  // a command without a run folder
  run::note_early_stop(*world, run / "missing");
  run::note_early_stop(*world, run);
  world->barrier("noted");
  CHECK(test::read_text(file) == "signal 10\n");
  CHECK_FALSE(std::filesystem::exists(run / "missing"));
  world->barrier("read");

  run::forget_early_stop(*world, {});
  run::forget_early_stop(*world, run);
  world->barrier("forgotten");
  CHECK_FALSE(std::filesystem::exists(file));
  run::forget_early_stop(*world, run);  // there is none
  world->barrier("done");
}
