// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cmath>

#include "checkpoint/manifest.hpp"
#include "comm/communicator.hpp"
#include "io/atomic_file.hpp"
#include "io/file_descriptor.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using checkpoint::committed_steps;
using checkpoint::newest_good;
using checkpoint::Retention;
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
  std::vector<checkpoint::PassedOver> passed_over;
  CHECK(newest_good(scratch.path(), &passed_over) == step_folder(scratch.path(), 1));
  REQUIRE(passed_over.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(passed_over[i].step == 4 - static_cast<std::int64_t>(i));
  CHECK(passed_over[0].reason.find("step-00000004") != std::string::npos);
  CHECK(passed_over[0].reason.find("truncated") != std::string::npos);
  CHECK(passed_over[1].reason.find("missing") != std::string::npos);
  CHECK(passed_over[2].reason.find("step-00000002/manifest.json") != std::string::npos);
  CHECK(newest_good(scratch.path(), nullptr, 1) == step_folder(scratch.path(), 0));
  CHECK_FALSE(newest_good(scratch.path(), nullptr, 0));
}

TEST_CASE("a checkpoint of a newer version is not taken for damaged") {
  const test::ScratchFolder scratch;
  save_steps(scratch.path(), {0, 1, 2});
  const auto manifest = step_folder(scratch.path(), 2) / "manifest.json";
  auto document = nlohmann::json::parse(io::read_file(manifest));
  document["version"] = 1000;
  test::write_text(manifest, document.dump(1));
  std::vector<checkpoint::PassedOver> passed_over;
  test::expect_error(core::ExitCode::bad_input, {manifest.string(), "format version 1000"},
                     [&] { newest_good(scratch.path(), &passed_over); });
  CHECK(passed_over.empty());
  CHECK(newest_good(scratch.path(), &passed_over, 2) == step_folder(scratch.path(), 1));
}

TEST_CASE("what is set aside no longer counts, and nothing else is touched") {
  const test::ScratchFolder scratch;
  save_steps(scratch.path(), {0, 1, 2, 3, 4});
  CHECK(checkpoint::set_aside(scratch.path(), 3) == "step-00000003.set-aside");
  CHECK_FALSE(checkpoint::set_aside(scratch.path(), 3));
  CHECK(committed_steps(scratch.path()) == Steps{0, 1, 2, 4});
  save_steps(scratch.path(), {3});  // the name is free again
  CHECK(checkpoint::set_aside(scratch.path(), 3) == "step-00000003.set-aside-2");
  CHECK(std::filesystem::exists(scratch / "step-00000003.set-aside/manifest.json"));
  CHECK(newest_good(scratch.path()) == step_folder(scratch.path(), 4));
}

TEST_CASE("a checkpoint that the system does not let one read is not passed over") {
  const test::ScratchFolder scratch;
  save_steps(scratch.path(), {0, 1, 2});
  const auto folder = step_folder(scratch.path(), 2);
  // A link to itself: the system refuses it (ELOOP), and nobody knows what the file holds.
  const auto refuse = [&](const std::filesystem::path& file) {
    std::filesystem::rename(file, scratch / "kept");
    std::filesystem::create_symlink(file.filename(), file);
  };
  const auto expect_refusal = [&](const std::filesystem::path& file, const std::vector<std::string>& parts) {
    try {
      newest_good(scratch.path());
      FAIL("nothing was thrown");
    } catch (const core::SystemError& error) {
      INFO(error.what());
      CHECK_FALSE(checkpoint::is_damage(error));
      for (const std::string& part : parts) CHECK(std::string(error.what()).find(part) != std::string::npos);
      CHECK(std::string(error.what()).find(file.string()) != std::string::npos);
    }
  };
  refuse(folder / "shard-00000.h5");
  expect_refusal(folder / "shard-00000.h5", {folder.string() + " was not taken for damaged", "move that folder away"});
  std::filesystem::rename(scratch / "kept", folder / "shard-00000.h5");
  CHECK(newest_good(scratch.path()) == folder);
  // What comes before it is of no interest.
  refuse(step_folder(scratch.path(), 1) / "shard-00000.h5");
  CHECK(newest_good(scratch.path()) == folder);
  std::filesystem::remove(folder / "shard-00000.h5");
  expect_refusal(step_folder(scratch.path(), 1) / "shard-00000.h5", {"not taken for damaged"});
  // Step 0 has none before it.
  std::filesystem::rename(scratch / "kept", step_folder(scratch.path(), 1) / "shard-00000.h5");
  refuse(step_folder(scratch.path(), 0) / "shard-00000.h5");
  std::filesystem::remove(step_folder(scratch.path(), 1) / "shard-00000.h5");
  try {
    newest_good(scratch.path());
    FAIL("nothing was thrown");
  } catch (const core::SystemError& error) {
    CHECK(std::string(error.what()).find("move") == std::string::npos);
  }
}

TEST_CASE("what is missing, malformed or changed is damage; what the system refuses is not") {
  using core::ExitCode;
  CHECK(checkpoint::is_damage(core::Error(ExitCode::bad_input, "")));
  CHECK(checkpoint::is_damage(core::SystemError(ENOENT, "")));
  for (const int error : {EIO, ESTALE, ENOSPC, EACCES, EPERM, EMFILE}) {
    CHECK_FALSE(checkpoint::is_damage(core::SystemError(error, "")));
  }
  for (const ExitCode code : {ExitCode::internal, ExitCode::peer_lost, ExitCode::storage_full}) {
    CHECK_FALSE(checkpoint::is_damage(core::Error(code, "")));
  }
}

TEST_CASE("old checkpoints go, step 0 and the newest stay") {
  const test::ScratchFolder scratch;
  Retention(scratch / "missing", {2}).apply();
  save_steps(scratch.path(), {0, 10, 20, 30, 40});
  // An unfinished save before the newest is rubbish; one after it may be under way.
  std::filesystem::create_directories(step_folder(scratch.path(), 35));
  std::filesystem::create_directories(step_folder(scratch.path(), 50));
  Retention(scratch.path(), {2}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{0, 30, 40});
  for (const std::int64_t gone : {10, 20, 35}) CHECK_FALSE(std::filesystem::exists(step_folder(scratch.path(), gone)));
  CHECK(std::filesystem::exists(step_folder(scratch.path(), 50)));
  Retention(scratch.path(), {0}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{0, 40});
  Retention(scratch.path(), {5}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{0, 40});
}

TEST_CASE("every so many steps one stays") {
  const test::ScratchFolder scratch;
  save_steps(scratch.path(), {0, 10, 20, 25, 30, 40, 50});
  // Unfinished, though its step is one of those: it does not stay.
  std::filesystem::create_directories(step_folder(scratch.path(), 44));
  std::filesystem::create_directories(step_folder(scratch.path(), 48));
  Retention(scratch.path(), {.newest = 1, .every = 4}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{0, 20, 40, 50});
  CHECK_FALSE(std::filesystem::exists(step_folder(scratch.path(), 44)));
  CHECK_FALSE(std::filesystem::exists(step_folder(scratch.path(), 48)));
}

TEST_CASE("the best stays until a better one comes") {
  const test::ScratchFolder scratch;
  const auto world = comm::make_serial_communicator("world");
  Retention retention(scratch.path(), {.newest = 1, .best = true});
  // A loss that is null was not a number; none: the step was not evaluated.
  const auto save = [&](std::int64_t step, const nlohmann::json& state) {
    checkpoint::save(*world, {.folder = step_folder(scratch.path(), step), .step = step, .state = state},
                     {test::piece_of("w", {2, 2}, core::DType::f32, layout::whole({2, 2}))});
    retention.apply();
    return committed_steps(scratch.path());
  };
  const auto loss = [](double value) { return nlohmann::json{{checkpoint::held_out_loss_field, value}}; };
  CHECK(save(0, loss(0.5)) == Steps{0});
  CHECK(save(10, nlohmann::json::object()) == Steps{0, 10});
  CHECK(save(20, loss(3)) == Steps{0, 20});
  CHECK(save(30, loss(2)) == Steps{0, 30});
  CHECK(save(40, loss(2.5)) == Steps{0, 30, 40});
  CHECK(save(50, loss(std::nan(""))) == Steps{0, 30, 50});
  CHECK(save(60, nlohmann::json::object()) == Steps{0, 30, 60});
  // Of equal ones the newer.
  CHECK(save(70, loss(2)) == Steps{0, 70});
  // A damaged one is none to keep, and stops nothing; a later start reads the losses from the manifests.
  CHECK(save(80, loss(1)) == Steps{0, 80});
  test::flip_bit(step_folder(scratch.path(), 80) / "manifest.json", 30);
  CHECK(save(90, loss(1.5)) == Steps{0, 80, 90});
  Retention(scratch.path(), {.newest = 1, .best = true}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{0, 90});
}

TEST_CASE("losses of different held-out sets are not ranked with each other") {
  const test::ScratchFolder scratch;
  const auto world = comm::make_serial_communicator("world");
  Retention retention(scratch.path(), {.newest = 1, .best = true});
  const auto save = [&](std::int64_t step, double loss, const nlohmann::json& set) {
    nlohmann::json state{{checkpoint::held_out_loss_field, loss}};
    if (!set.is_null()) state[checkpoint::held_out_set_field] = set;
    checkpoint::save(*world, {.folder = step_folder(scratch.path(), step), .step = step, .state = state},
                     {test::piece_of("w", {2, 2}, core::DType::f32, layout::whole({2, 2}))});
    retention.apply();
    return committed_steps(scratch.path());
  };
  // An older checkpoint does not say which set its loss is of: it compares with its like only.
  CHECK(save(10, 2, nullptr) == Steps{10});
  CHECK(save(20, 1.5, nullptr) == Steps{20});
  const nlohmann::json all{{"data", "0123"}, {"samples", 60}};
  CHECK(save(30, 1, all) == Steps{20, 30});
  CHECK(save(40, 3, all) == Steps{20, 30, 40});
  // The same file, but less of it; then another file.
  const nlohmann::json one{{"data", "0123"}, {"samples", 1}};
  CHECK(save(50, 0.1, one) == Steps{20, 30, 50});
  CHECK(save(60, 0.2, one) == Steps{20, 30, 50, 60});
  CHECK(save(70, 0.05, one) == Steps{20, 30, 70});
  const nlohmann::json other{{"data", "4567"}, {"samples", 60}};
  CHECK(save(80, 5, other) == Steps{20, 30, 70, 80});
  // Back at a former set: its best is still there to be compared with.
  CHECK(save(90, 1.1, all) == Steps{20, 30, 70, 80, 90});
  CHECK(save(100, 0.9, all) == Steps{20, 70, 80, 100});
  Retention(scratch.path(), {.newest = 1, .best = true}).apply();
  CHECK(committed_steps(scratch.path()) == Steps{20, 70, 80, 100});
}

TEST_CASE("nothing is deleted while a loss cannot be read, which may be the best") {
  const test::ScratchFolder scratch;
  const auto world = comm::make_serial_communicator("world");
  for (const std::int64_t step : {10, 20, 30}) {
    checkpoint::save(*world,
                     {.folder = step_folder(scratch.path(), step),
                      .step = step,
                      .state = {{checkpoint::held_out_loss_field, static_cast<double>(step)}}},
                     {test::piece_of("w", {2, 2}, core::DType::f32, layout::whole({2, 2}))});
  }
  const auto manifest = step_folder(scratch.path(), 10) / "manifest.json";
  // A socket: it is there, and the system refuses to open it (ENXIO).
  std::filesystem::rename(manifest, scratch / "kept");
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  REQUIRE(manifest.string().size() < sizeof address.sun_path);
  manifest.string().copy(address.sun_path, sizeof address.sun_path - 1);
  const io::FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  Retention retention(scratch.path(), {.newest = 1, .best = true});
  retention.apply();
  std::filesystem::remove(manifest);
  std::filesystem::rename(scratch / "kept", manifest);
  CHECK(committed_steps(scratch.path()) == Steps{10, 20, 30});
  retention.apply();
  CHECK(committed_steps(scratch.path()) == Steps{10, 30});
}
