// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.hpp"

#include "comm/communicator.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using checkpoint::committed_steps;
using checkpoint::keep_newest;
using checkpoint::newest_good;
using checkpoint::step_folder;

namespace {

using Steps = std::vector<std::int64_t>;

void save_steps(const std::filesystem::path& checkpoints, const Steps& steps) {
  const auto world = comm::make_serial_communicator("world");
  for (const std::int64_t step : steps) {
    checkpoint::save(*world, {.folder = step_folder(checkpoints, step), .step = step},
                     {test::piece_of("w", {2, 2}, core::DType::f32, layout::whole({2, 2}))});
  }
}

}  // namespace

TEST_CASE("only committed folders of the right name count") {
  const test::ScratchFolder scratch;
  CHECK(committed_steps(scratch / "missing").empty());
  CHECK_FALSE(newest_good(scratch / "missing"));
  CHECK(step_folder("a", 120) == std::filesystem::path("a/step-00000120"));
  save_steps(scratch.path(), {120, 0, 123456789});
  // An interrupted save: the shards are there, the manifest is not.
  std::filesystem::copy(step_folder(scratch.path(), 120), step_folder(scratch.path(), 130),
                        std::filesystem::copy_options::recursive);
  std::filesystem::remove(step_folder(scratch.path(), 130) / "manifest.json");
  std::filesystem::create_directories(scratch / "step-old");
  test::write_text(scratch / "step-old/manifest.json", "{}");
  CHECK(committed_steps(scratch.path()) == Steps{0, 120, 123456789});
  CHECK(newest_good(scratch.path()) == step_folder(scratch.path(), 123456789));
}

TEST_CASE("a damaged checkpoint is passed over with its reason") {
  const test::ScratchFolder scratch;
  save_steps(scratch.path(), {0, 1, 2, 3, 4});
  std::filesystem::resize_file(step_folder(scratch.path(), 4) / "shard-00000.h5", 100);
  std::filesystem::remove(step_folder(scratch.path(), 3) / "shard-00000.h5");
  test::flip_bit(step_folder(scratch.path(), 2) / "manifest.json", 30);
  std::vector<std::string> passed_over;
  CHECK(newest_good(scratch.path(), &passed_over) == step_folder(scratch.path(), 1));
  REQUIRE(passed_over.size() == 3);
  CHECK(passed_over[0].find("step-00000004") != std::string::npos);
  CHECK(passed_over[0].find("truncated") != std::string::npos);
  CHECK(passed_over[1].find("missing") != std::string::npos);
  CHECK(passed_over[2].find("step-00000002/manifest.json") != std::string::npos);
  CHECK(newest_good(scratch.path(), nullptr, 1) == step_folder(scratch.path(), 0));
  CHECK_FALSE(newest_good(scratch.path(), nullptr, 0));
}

TEST_CASE("old checkpoints go, step 0 and the newest stay") {
  const test::ScratchFolder scratch;
  keep_newest(scratch / "missing", 2);
  save_steps(scratch.path(), {0, 10, 20, 30, 40});
  // An unfinished save before the newest is rubbish; one after it may be under way.
  std::filesystem::create_directories(step_folder(scratch.path(), 35));
  std::filesystem::create_directories(step_folder(scratch.path(), 50));
  keep_newest(scratch.path(), 2);
  CHECK(committed_steps(scratch.path()) == Steps{0, 30, 40});
  for (const std::int64_t gone : {10, 20, 35}) CHECK_FALSE(std::filesystem::exists(step_folder(scratch.path(), gone)));
  CHECK(std::filesystem::exists(step_folder(scratch.path(), 50)));
  keep_newest(scratch.path(), 0);
  CHECK(committed_steps(scratch.path()) == Steps{0, 40});
  keep_newest(scratch.path(), 5);
  CHECK(committed_steps(scratch.path()) == Steps{0, 40});
}
