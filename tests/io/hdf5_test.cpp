// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5.hpp"

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <thread>

#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using core::DType;

// The leak sanitizer asks for this: HDF5 itself loses a kilobyte for every file that cannot be closed, as on a full
// disk.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming): the name is the sanitizer's
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

TEST_CASE("rows are written in any order and boxes are read, in every element type") {
  const test::ScratchFolder scratch;
  using enum DType;
  const layout::Shape shape{5, 2, 3};
  for (const DType dtype : {f32, bf16, f16, f64, i64, i32, u8}) {
    const std::string name = "group/" + std::string(core::name_of(dtype));
    const std::size_t element = core::size_of(dtype);
    std::vector<unsigned char> bytes(30 * element);
    std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(1));
    {
      io::Hdf5File file = io::Hdf5File::create(scratch / "f.h5");
      {
        io::Hdf5Dataset dataset = file.create_dataset(name, shape, dtype);
        dataset.write_rows(3, 5, bytes.data() + 18 * element);
        dataset.write_rows(0, 3, bytes.data());
      }
      file.set_attribute("program", "this test");
      file.close();
    }
    const io::Hdf5File file = io::Hdf5File::open(scratch / "f.h5");
    CHECK(file.attribute("program") == "this test");
    CHECK(file.contains(name));
    CHECK_FALSE(file.contains("no/such"));
    const io::Hdf5Dataset dataset = file.dataset(name);
    CHECK(dataset.dtype() == dtype);
    CHECK(dataset.shape() == shape);
    std::vector<unsigned char> all(bytes.size());
    dataset.read_rows(0, 5, all.data());
    CHECK(all == bytes);
    const layout::Rectangle part{{1, 1, 1}, {3, 1, 2}};
    std::vector<unsigned char> expected(6 * element);
    std::vector<unsigned char> read(6 * element);
    layout::copy_part(part, layout::whole(shape), bytes.data(), part, expected.data(), element);
    dataset.read(part, read.data());
    CHECK(read == expected);
  }
}

TEST_CASE("a virtual dataset shows the parts of other files, also in a folder that moved") {
  const test::ScratchFolder scratch;
  std::filesystem::create_directories(scratch / "before");
  // [2, 4] from two files with two columns each; a third file that would hold columns 4 and 5 is missing.
  for (int shard = 0; shard < 2; ++shard) {
    const std::vector<float> values{static_cast<float>(10 * shard), static_cast<float>(10 * shard + 1),
                                    static_cast<float>(10 * shard + 4), static_cast<float>(10 * shard + 5)};
    io::Hdf5File file = io::Hdf5File::create(scratch / "before" / (core::concat("shard-", shard, ".h5")));
    file.create_dataset("w%b@0", {2, 2}, DType::f32).write_rows(0, 2, values.data());
    file.close();
  }
  {
    io::Hdf5File file = io::Hdf5File::create(scratch / "before" / "master.h5");
    std::vector<io::VirtualPart> parts;
    for (std::int64_t shard = 0; shard < 3; ++shard) {
      parts.push_back({{{0, 2 * shard}, {2, 2}}, core::concat("shard-", shard, ".h5"), "w%b@0"});
    }
    file.create_virtual("w", {2, 6}, DType::f32, parts);
    file.close();
  }
  std::filesystem::rename(scratch / "before", scratch / "after");
  const io::Hdf5File file = io::Hdf5File::open(scratch / "after" / "master.h5");
  std::vector<float> row(6);
  file.dataset("w").read_rows(1, 2, row.data());
  CHECK(std::vector<float>(row.begin(), row.begin() + 4) == std::vector<float>{4, 5, 14, 15});
  CHECK(std::isnan(row[4]));
  CHECK(std::isnan(row[5]));
}

TEST_CASE("failures name path and dataset") {
  const test::ScratchFolder scratch;
  test::expect_error(core::ExitCode::bad_input, {(scratch / "missing.h5").string(), "open", "HDF5"},
                     [&] { io::Hdf5File::open(scratch / "missing.h5"); });
  test::expect_error(core::ExitCode::bad_input, {(scratch / "no/f.h5").string(), "create", "HDF5"},
                     [&] { io::Hdf5File::create(scratch / "no/f.h5"); });
  test::write_text(scratch / "text.h5", "this is not HDF5");
  test::expect_error(core::ExitCode::bad_input, {(scratch / "text.h5").string(), "HDF5"},
                     [&] { io::Hdf5File::open(scratch / "text.h5"); });
  io::Hdf5File file = io::Hdf5File::create(scratch / "f.h5");
  test::expect_error(core::ExitCode::bad_input, {(scratch / "f.h5").string(), "dataset w", "HDF5"},
                     [&] { file.dataset("w"); });
  // A dataset that is still open would be written after close() returned.
  std::optional<io::Hdf5Dataset> dataset(file.create_dataset("open", {1}, DType::u8));
  test::expect_error(core::ExitCode::internal, {(scratch / "f.h5").string(), "1 of its objects"},
                     [&] { file.close(); });
  dataset.reset();
  file.close();
}

TEST_CASE("a full storage is recognised inside HDF5's message") {
  test::expect_error(core::ExitCode::storage_full, {"/dev/full", "full"}, [] {
    io::Hdf5File file = io::Hdf5File::create("/dev/full");
    const std::vector<char> bytes(1 << 20);
    file.create_dataset("w", {1 << 20}, DType::u8).write_rows(0, 1 << 20, bytes.data());
    file.close();
  });
}

TEST_CASE("threads share the library") {
  const test::ScratchFolder scratch;
  const auto work = [&](int thread) {
    for (int round = 0; round < 20; ++round) {
      const auto path = scratch / core::concat("t", thread, ".h5");
      const std::vector<std::int32_t> values{thread, round};
      io::Hdf5File file = io::Hdf5File::create(path);
      file.create_dataset("w", {2}, DType::i32).write_rows(0, 2, values.data());
      file.close();
      std::vector<std::int32_t> read(2);
      io::Hdf5File::open(path).dataset("w").read_rows(0, 2, read.data());
      if (read != values) throw std::runtime_error("thread read something else");
    }
  };
  std::vector<std::thread> threads;
  std::vector<int> failed(4, 0);
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      try {
        work(thread);
      } catch (...) {
        failed[static_cast<std::size_t>(thread)] = 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == std::vector<int>(4, 0));
}
