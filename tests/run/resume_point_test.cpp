// SPDX-License-Identifier: Apache-2.0
#include "run/resume_point.hpp"

#include "comm/agreement.hpp"
#include "run/checkpoint_choice.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/run/checkpoints.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
namespace fs = std::filesystem;

namespace {

/// A run folder that this job holds; rank 0 prepares its checkpoints.
struct HeldRun {
  test::SharedFolder shared;
  const std::unique_ptr<comm::Communicator>& world = shared.world;
  run::RunFolder folder{shared.folder / "run"};
  run::OpenRun held{*world, folder};

  template <typename Work>
  void prepare(Work work) {
    if (world->rank() == 0) work();
    world->barrier("prepared");
  }
  fs::path step(std::int64_t number) const { return checkpoint::step_folder(folder.checkpoints(), number); }
  run::ResumePoint point(const std::string& resume = "auto") {
    return {*world, held, {resume, run::step_0_folder(folder, ""), "tiny.ini"}};
  }
  ~HeldRun() { world->barrier("done"); }  // before the folder is given back
};

template <typename Work>
void expect_refused(const std::string& part, Work work) {
  try {
    work();
    FAIL("it was not refused");
  } catch (const comm::AgreedError& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    INFO(error.what());
    CHECK(std::string(error.what()).find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a run goes on from its newest good checkpoint, else from where it begins") {
  HeldRun run;
  expect_refused("run caravan upcycle tiny.ini first", [&] { run.point().choose(); });
  run.prepare([&] { test::save_step(run.folder.checkpoints(), 0); });
  CHECK(run.point().choose() == run.step(0));
  CHECK(run.point("/elsewhere/step-00000009").choose() == "/elsewhere/step-00000009");
  CHECK(run.point("never").choose() == run.step(0));
  run.prepare([&] {
    for (const std::int64_t step : {4, 8}) test::save_step(run.folder.checkpoints(), step, "s");
  });
  CHECK(run.point().choose() == run.step(8));
  // A job that is queued again with its configuration must not begin again.
  CHECK(run.point("/elsewhere/step-00000009").choose() == run.step(8));
  expect_refused("checkpoint.resume = never", [&] { run.point("never").choose(); });
  expect_refused("is a checkpoint of this run", [&] { run.point(run.step(4).string()).choose(); });
}

TEST_CASE("damage leads to the checkpoint before, and only the damaged ones are set aside") {
  HeldRun run;
  run.prepare([&] {
    test::save_step(run.folder.checkpoints(), 0);
    for (const std::int64_t step : {4, 8, 12}) test::save_step(run.folder.checkpoints(), step, "s");
    test::damage_step(run.folder.checkpoints(), 12);
  });
  run::ResumePoint point = run.point();
  CHECK(point.choose() == run.step(8));
  CHECK(point.choose_before(8, "its tensor w is damaged", {"", "s"}) == run.step(4));
  point.require_same_store(run.step(4), run.step(0), {"", "s"});
  run.world->barrier("chosen");
  CHECK(fs::exists(run.step(12)));  // not before nothing can refuse the start any more
  if (run.world->rank() == 0) point.set_aside_damaged();
  run.world->barrier("set aside");
  for (const std::int64_t step : {8, 12}) {
    CHECK_FALSE(fs::exists(run.step(step)));
    CHECK(fs::exists(run.step(step).string() + ".set-aside"));
  }
  CHECK(fs::exists(run.step(4)));
  CHECK(point.choose_before(4, "so is this", {"", "s"}) == run.step(0));
  CHECK(run.point().choose() == run.step(4));
}

TEST_CASE("damage leads to no other model") {
  HeldRun run;
  run.prepare([&] {
    test::save_step(run.folder.checkpoints(), 0);
    test::save_step(run.folder.checkpoints(), 4, "the store it was trained with");
    test::damage_step(run.folder.checkpoints(), 4);
  });
  run::ResumePoint point = run.point();
  CHECK(point.choose() == run.step(0));
  expect_refused("would change the model", [&] {
    point.require_same_store(run.step(0), run.step(0), {"", "another store"});
  });
  point.require_same_store(run.step(0), run.step(0), {"", "the store it was trained with"});
}

TEST_CASE("a command takes the checkpoint that checkpoint.step names") {
  const test::ScratchFolder scratch;
  const run::RunFolder folder(scratch.path());
  const fs::path store = scratch / "store";
  CHECK(run::step_0_folder(folder, store.string()) == store);
  CHECK_FALSE(run::chosen_checkpoint(folder, std::nullopt, store));
  test::save_step(scratch.path(), 0);
  fs::rename(scratch / "step-00000000", store);
  CHECK(run::chosen_checkpoint(folder, std::nullopt, store) == store);
  CHECK(run::chosen_checkpoint(folder, 0, store) == store);
  test::save_step(folder.checkpoints(), 6, "s");
  CHECK(run::chosen_checkpoint(folder, std::nullopt, store) == folder.checkpoints() / "step-00000006");
  CHECK(run::chosen_checkpoint(folder, 5, store) == folder.checkpoints() / "step-00000005");
}
