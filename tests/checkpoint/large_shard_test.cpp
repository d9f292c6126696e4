// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator.hpp"
#include "core/random.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

TEST_CASE("a piece and a shard above 2 GiB") {
  const test::ScratchFolder scratch;
  if (std::filesystem::space(scratch.path()).available < (std::uintmax_t{3} << 30)) {
    WARN("skipped: needs 3 GiB in " << scratch.path().parent_path().string());
    return;
  }
  constexpr std::int64_t width = 1 << 20;
  const layout::Shape shape{1100, width};  // of two bytes
  const auto fill_row = [](std::int64_t row, std::uint16_t* out) {
    for (std::int64_t i = 0; i < width; ++i) {
      const std::uint64_t bits = core::mix64(static_cast<std::uint64_t>(row)) + static_cast<std::uint64_t>(i);
      out[i] = static_cast<std::uint16_t>(bits & 0xbfff);  // finite: the highest bit of the exponent is 0
    }
  };
  const auto fill = [&](std::int64_t begin, std::int64_t end, void* out) {
    for (std::int64_t row = begin; row < end; ++row) {
      fill_row(row, static_cast<std::uint16_t*>(out) + (row - begin) * width);
    }
  };
  const auto world = comm::make_serial_communicator("world");
  checkpoint::save(*world, {.folder = scratch / "c", .step = 1},
                   {{"w", shape, core::DType::bf16, layout::whole(shape), fill}});
  CHECK(std::filesystem::file_size(scratch / "c/shard-00000.h5") > (std::uintmax_t{2} << 30));

  const checkpoint::CheckpointReader reader(scratch / "c");
  CHECK(reader.verify().empty());
  std::vector<std::uint16_t> expected(static_cast<std::size_t>(width));
  std::vector<std::uint16_t> read(static_cast<std::size_t>(width));
  for (const std::int64_t row : {0, 1023, 1024, 1099}) {  // 1024 begins at 2 GiB
    fill_row(row, expected.data());
    reader.read("w", {{row, 0}, {1, width}}, core::DType::bf16, read.data());
    CHECK(read == expected);
  }
}
