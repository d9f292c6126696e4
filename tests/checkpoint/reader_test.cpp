// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader.hpp"

#include "comm/communicator.hpp"
#include "core/random.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using core::DType;

namespace {

const layout::Shape wide{8, 12};
const layout::Shape experts{4, 6, 5};

// One shard with "w" cut into four column pieces and "experts" into row pieces of unequal size.
void save_small(const std::filesystem::path& folder) {
  const auto world = comm::make_serial_communicator("world");
  std::vector<checkpoint::Piece> pieces;
  for (int part = 0; part < 4; ++part) {
    pieces.push_back(test::piece_of("layer.w", wide, DType::f32, test::slice(wide, 1, 4, part)));
  }
  pieces.push_back(test::piece_of("layer.experts", experts, DType::bf16, {{0, 0, 0}, {3, 6, 5}}));
  pieces.push_back(test::piece_of("layer.experts", experts, DType::bf16, {{3, 0, 0}, {1, 6, 5}}));
  pieces.push_back(test::piece_of("layer.experts", experts, DType::bf16, {{4, 0, 0}, {0, 6, 5}}));  // nothing
  pieces.push_back(test::piece_of("optimizer/exp_avg/layer.w", wide, DType::f32, layout::whole(wide)));
  checkpoint::save(*world, {.folder = folder, .step = 3, .state = {{"seed", 5}}, .tp = 2, .program = "test"}, pieces);
}

}  // namespace

TEST_CASE("a checkpoint is read in any other cut and element type") {
  const test::ScratchFolder scratch;
  save_small(scratch / "c");
  const checkpoint::CheckpointReader reader(scratch / "c");
  CHECK(reader.step() == 3);
  CHECK(reader.state() == nlohmann::json{{"seed", 5}});
  CHECK(reader.layout().tp == 2);
  CHECK(reader.program() == "test");
  CHECK(reader.tensor_names() == std::vector<std::string>{"layer.experts", "layer.w", "optimizer/exp_avg/layer.w"});
  CHECK(reader.info("layer.experts").dtype == DType::bf16);
  CHECK(reader.info("layer.experts").shape == experts);
  CHECK(reader.verify().empty());

  for (const auto& name : {"layer.w", "optimizer/exp_avg/layer.w"}) {
    for (const std::size_t dimension : {0U, 1U}) {
      for (const std::int64_t parts : {1, 2, 4}) {
        for (std::int64_t index = 0; index < parts; ++index) {
          const layout::Rectangle part = test::slice(wide, dimension, parts, index);
          std::vector<float> read(static_cast<std::size_t>(part.count()));
          reader.read(name, part, DType::f32, read.data());
          CHECK(read == test::elements(name, wide, part));
        }
      }
    }
  }
  const layout::Rectangle odd{{1, 2, 1}, {3, 3, 4}};
  std::vector<float> read(static_cast<std::size_t>(odd.count()));
  reader.read("layer.experts", odd, DType::f32, read.data());
  CHECK(read == test::elements("layer.experts", experts, odd));
}

TEST_CASE("a tensor of several blocks is read from the blocks that matter") {
  const test::ScratchFolder scratch;
  // Rows of 2 MiB: 8 to a block, so 20 rows are blocks of 8, 8 and 4.
  const layout::Shape shape{20, 1 << 20};
  std::vector<std::uint16_t> values(static_cast<std::size_t>(layout::element_count(shape)));
  // Finite: the highest bit of the exponent is 0.
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(core::mix64(i) & 0xbfff);
  const auto world = comm::make_serial_communicator("world");
  checkpoint::save(*world, {.folder = scratch / "c", .step = 1},
                   {checkpoint::make_piece("w", shape, DType::bf16, layout::whole(shape), values.data())});
  CHECK(checkpoint::Manifest::read(scratch / "c").tensors.at("w").pieces.at(0).hashes.size() == 3);

  const auto read_rows = [&](std::int64_t begin, std::int64_t end) {
    const checkpoint::CheckpointReader reader(scratch / "c");
    const layout::Rectangle part{{begin, 0}, {end - begin, shape[1]}};
    std::vector<std::uint16_t> read(static_cast<std::size_t>(part.count()));
    reader.read("w", part, DType::bf16, read.data());
    return std::equal(read.begin(), read.end(), values.begin() + begin * shape[1]);
  };
  CHECK(read_rows(6, 18));

  const std::int64_t row_13 = test::find_bytes(scratch / "c/shard-00000.h5", &values[13 << 20], 64);
  REQUIRE(row_13 > 0);
  test::flip_bit(scratch / "c/shard-00000.h5", row_13);
  CHECK(read_rows(0, 8));
  CHECK(read_rows(16, 20));
  test::expect_error(core::ExitCode::bad_input, {"shard-00000.h5", "tensor w", "rows 8 to 15", "checksum"},
                     [&] { read_rows(15, 16); });
  const std::vector<std::string> problems = checkpoint::CheckpointReader(scratch / "c").verify();
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("rows 8 to 15") != std::string::npos);
}

TEST_CASE("a damaged shard is refused by name") {
  const test::ScratchFolder scratch;
  save_small(scratch / "c");
  const auto shard = scratch / "c/shard-00000.h5";
  std::vector<float> target(96);
  const auto read = [&] {
    const checkpoint::CheckpointReader reader(scratch / "c");
    reader.read("layer.w", layout::whole(wide), DType::f32, target.data());
  };
  const auto problem = [&] { return checkpoint::CheckpointReader(scratch / "c").verify().at(0); };
  const std::string whole = test::read_text(shard);

  SECTION("truncated") {
    std::filesystem::resize_file(shard, whole.size() - 1);
    test::expect_error(core::ExitCode::bad_input, {shard.string(), "truncated", "tensor layer.w", "rows 0 to 7"}, read);
    CHECK(problem().find("truncated") != std::string::npos);
  }
  SECTION("missing") {
    std::filesystem::remove(shard);
    test::expect_error(core::ExitCode::bad_input, {shard.string(), "missing", "tensor layer.w", "rows 0 to 7"}, read);
    CHECK(problem().find("missing") != std::string::npos);
  }
  SECTION("any bit of the data") {
    const std::vector<float> column = test::elements("layer.w", wide, test::slice(wide, 1, 4, 1));
    const std::int64_t at = test::find_bytes(shard, column.data(), column.size() * sizeof(float));
    REQUIRE(at > 0);
    test::flip_bit(shard, at + 17);
    test::expect_error(core::ExitCode::bad_input, {shard.string(), "tensor layer.w", "rows 0 to 7", "checksum"}, read);
    CHECK(problem().find("layer.w") != std::string::npos);
  }
  SECTION("HDF5's own header") {
    test::flip_bit(shard, 0);
    test::expect_error(core::ExitCode::bad_input, {shard.string(), "tensor layer.w"}, read);
    CHECK(problem().find("shard-00000.h5") != std::string::npos);
  }
}

TEST_CASE("what is not there or does not fit is named") {
  const test::ScratchFolder scratch;
  save_small(scratch / "c");
  const checkpoint::CheckpointReader reader(scratch / "c");
  std::vector<std::int64_t> target(96);
  CHECK_FALSE(reader.contains("layer.v"));
  test::expect_error(core::ExitCode::bad_input, {(scratch / "c").string(), "layer.v", "nearest name is layer.w"},
                     [&] { reader.info("layer.v"); });
  test::expect_error(core::ExitCode::bad_input, {"layer.w", "float32", "int64"},
                     [&] { reader.read("layer.w", layout::whole(wide), DType::i64, target.data()); });
  test::expect_error(core::ExitCode::internal, {"layer.w", "outside"}, [&] {
    reader.read("layer.w", {{1, 0}, {8, 12}}, DType::f32, target.data());
  });
}
