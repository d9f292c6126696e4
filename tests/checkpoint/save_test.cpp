// SPDX-License-Identifier: Apache-2.0
// Saving with one, two and four ranks: each writes its shard, any rank reads any part.
#include "checkpoint/save.hpp"

#include <sys/resource.h>

#include <csignal>

#include "comm/mpi_runtime.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/io/expect_error.hpp"

using namespace caravan;
using core::DType;

namespace {

const layout::Shape matrix{12, 8};

std::unique_ptr<comm::Communicator> make_test_world() { return comm::make_world(30); }

std::vector<checkpoint::Piece> pieces_of(const comm::Communicator& world) {
  const int parts = world.size();
  std::vector<checkpoint::Piece> pieces{
      test::piece_of("columns", matrix, DType::f32, test::slice(matrix, 1, parts, world.rank())),
      test::piece_of("rows", matrix, DType::bf16, test::slice(matrix, 0, parts, world.rank()))};
  // Replicated: one rank writes it. With several ranks, rank 0 has the smaller shard.
  if (world.rank() == parts - 1) pieces.push_back(test::piece_of("norm", {8}, DType::f32, layout::whole({8})));
  return pieces;
}

// Files of this process cannot grow beyond `bytes`: what a write to a failing file system looks like.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : former_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &former_);
    const rlimit limit{bytes, former_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &former_);
    std::signal(SIGXFSZ, former_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit former_{};
  void (*former_handler_)(int);
};

// All ranks must throw, with the same exit code, and no manifest may appear.
void expect_failure(comm::Communicator& world, const std::filesystem::path& folder, core::ExitCode code,
                    const std::vector<std::string>& parts, const std::vector<checkpoint::Piece>& pieces) {
  test::expect_error(code, parts, [&] { checkpoint::save(world, {.folder = folder, .step = 9}, pieces); });
  CHECK_FALSE(std::filesystem::exists(folder / "manifest.json"));
  world.barrier("after failure");
}

}  // namespace

TEST_CASE("what several ranks write, each reads in any cut") {
  const auto world = make_test_world();
  const test::ScratchFolder scratch;
  const auto folder = test::shared(*world, scratch) / "step-00000002";
  checkpoint::save(*world, {.folder = folder, .step = 2, .state = {{"position", 17}}, .tp = world->size()},
                   pieces_of(*world));

  const checkpoint::CheckpointReader reader(folder);
  CHECK(reader.layout().world == world->size());
  CHECK(reader.state().at("position") == 17);
  CHECK(reader.verify().empty());
  for (const std::string name : {"columns", "rows"}) {
    for (const std::size_t dimension : {0U, 1U}) {
      const layout::Rectangle part = test::slice(matrix, dimension, 2, world->rank() % 2);
      std::vector<float> read(static_cast<std::size_t>(part.count()));
      reader.read(name, part, DType::f32, read.data());
      CHECK(read == test::elements(name, matrix, part));
    }
  }
  std::vector<float> norm(8);
  reader.read("norm", layout::whole({8}), DType::f32, norm.data());
  CHECK(norm == test::elements("norm", {8}, layout::whole({8})));
  world->barrier("done reading");
}

TEST_CASE("a committed checkpoint is never written over, an unfinished one is") {
  const auto world = make_test_world();
  const test::ScratchFolder scratch;
  const auto folder = test::shared(*world, scratch) / "step-00000002";
  if (world->rank() == 0) {
    std::filesystem::create_directories(folder);
    test::write_text(folder / "shard-00077.h5", "left behind by a larger world");
    test::write_text(folder / "manifest.json.tmp-1", "{");
  }
  checkpoint::save(*world, {.folder = folder, .step = 2}, pieces_of(*world));
  CHECK_FALSE(std::filesystem::exists(folder / "shard-00077.h5"));
  CHECK_FALSE(std::filesystem::exists(folder / "manifest.json.tmp-1"));
  const std::string manifest = test::read_text(folder / "manifest.json");
  world->barrier("read");
  test::expect_error(core::ExitCode::peer_lost, {folder.string(), "already holds"},
                     [&] { checkpoint::save(*world, {.folder = folder, .step = 2}, {}); });
  CHECK(test::read_text(folder / "manifest.json") == manifest);
  world->barrier("done");
}

TEST_CASE("a rank that fails takes the others along, without a manifest") {
  const auto world = make_test_world();
  const test::ScratchFolder scratch;
  const auto folder = test::shared(*world, scratch) / "step-00000009";
  const int last = world->size() - 1;
  std::vector<checkpoint::Piece> pieces = pieces_of(*world);

  SECTION("while it writes") {
    if (world->rank() == last) {
      pieces[0].fill = [](std::int64_t, std::int64_t, void*) { throw std::runtime_error("device lost"); };
    }
    expect_failure(*world, folder, core::ExitCode::internal, {"not saved", "device lost"}, pieces);
    CHECK_FALSE(std::filesystem::exists(folder / core::concat("shard-0000", last, ".h5")));
  }
  SECTION("with a full storage") {
    if (world->rank() == last) {
      pieces[0].fill = [](std::int64_t, std::int64_t, void*) {
        throw core::Error(core::ExitCode::storage_full, "no space");
      };
    }
    expect_failure(*world, folder, core::ExitCode::storage_full, {"not saved", "no space"}, pieces);
  }
  SECTION("over a value that is not finite") {
    if (world->rank() == last) {
      pieces[0].fill = [fill = pieces[0].fill, part = pieces[0].part](std::int64_t begin, std::int64_t end, void* out) {
        fill(begin, end, out);
        const std::int64_t width = part.count() / part.extent.at(0);
        static_cast<float*>(out)[(end - begin - 1) * width] = std::numeric_limits<float>::infinity();
      };
    }
    REQUIRE(pieces[0].dtype == DType::f32);
    const std::int64_t row = pieces[0].part.offset.at(0) + pieces[0].part.extent.at(0) - 1;
    const auto rows = world->broadcast_text("row", std::to_string(row), last);
    expect_failure(*world, folder, core::ExitCode::numerics,
                   {"not saved", pieces[0].name, "NaN or infinity (row " + rows + ")"}, pieces);
  }
  SECTION("because the file system fails") {
    const layout::Shape large{64, 4096};
    if (world->rank() == last) {
      pieces.push_back(test::piece_of("large", large, DType::f32, layout::whole(large)));
      const FileSizeLimit limit(100'000);
      expect_failure(*world, folder, core::ExitCode::bad_input, {"not saved", "shard-", "large", "File too large"},
                     pieces);
    } else {
      expect_failure(*world, folder, core::ExitCode::bad_input, {"not saved", "large", "File too large"}, pieces);
    }
  }
  SECTION("because a part is missing") {
    if (world->rank() == last) pieces.back() = test::piece_of("norm", {8}, DType::f32, {{1}, {7}});
    expect_failure(*world, folder, core::ExitCode::internal, {"norm", "7 of 8"}, pieces);
  }
  SECTION("because a tensor is missing") {
    checkpoint::SaveRequest request{.folder = folder, .step = 9};
    for (const checkpoint::Piece& piece : pieces) request.tensors.push_back(piece.name);
    request.tensors.push_back("a router");
    test::expect_error(core::ExitCode::internal, {"not saved", "a router"},
                       [&] { checkpoint::save(*world, request, pieces); });
    CHECK_FALSE(std::filesystem::exists(folder / "manifest.json"));
    world->barrier("looked");
  }
  SECTION("because two parts overlap") {
    if (world->rank() == last) {
      pieces.push_back(test::piece_of("norm", {8}, DType::f32, {{7}, {1}}));
    }
    expect_failure(*world, folder, core::ExitCode::internal, {"norm", "overlap"}, pieces);
  }
  // The same folder takes the next try.
  checkpoint::save(*world, {.folder = folder, .step = 9}, pieces_of(*world));
  CHECK(checkpoint::CheckpointReader(folder).verify().empty());
  world->barrier("done");
}

TEST_CASE("no checkpoint counts whose shards rank 0 does not see") {
  const auto world = make_test_world();
  const test::ScratchFolder scratch;
  const auto folder = test::shared(*world, scratch) / "step-00000006";
  const checkpoint::SaveRequest request{.folder = folder, .step = 6};
  checkpoint::prepare(*world, request);
  const checkpoint::ShardReport report = checkpoint::write_shard(folder, world->rank(), pieces_of(*world));
  world->barrier("all shards are durable");
  const std::string shard = core::concat("shard-0000", world->size() - 1, ".h5");
  const bool missing = GENERATE(true, false);
  if (world->rank() == 0 && missing) std::filesystem::remove(folder / shard);
  if (world->rank() == 0 && !missing) std::filesystem::resize_file(folder / shard, 100);
  world->barrier("changed");
  test::expect_error(core::ExitCode::peer_lost, {"does not find", shard, "run.folder"},
                     [&] { checkpoint::commit(*world, request, report); });
  CHECK_FALSE(std::filesystem::exists(folder / "manifest.json"));
  world->barrier("done");
}

TEST_CASE("a step that another thread writes is committed later") {
  const auto world = make_test_world();
  const test::ScratchFolder scratch;
  const auto folder = test::shared(*world, scratch) / "step-00000004";
  const checkpoint::SaveRequest request{.folder = folder, .step = 4};
  checkpoint::prepare(*world, request);
  const checkpoint::ShardReport report = checkpoint::write_shard(folder, world->rank(), pieces_of(*world));
  CHECK(report.failure.message.empty());
  world->barrier("all shards are durable");
  CHECK_FALSE(std::filesystem::exists(folder / "manifest.json"));
  world->barrier("looked");
  checkpoint::commit(*world, request, report);
  CHECK(checkpoint::CheckpointReader(folder).step() == 4);
  world->barrier("done");
}
