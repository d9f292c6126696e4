// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.hpp"

#include <cstring>

#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;

TEST_CASE("a mapped file shows the file's bytes") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "file", std::string("ab\0c", 4));
  io::MappedFile file(scratch / "file");
  REQUIRE(file.size() == 4);
  CHECK(std::memcmp(file.data(), "ab\0c", 4) == 0);

  const io::MappedFile moved = std::move(file);
  REQUIRE(moved.size() == 4);
  CHECK(std::memcmp(moved.data(), "ab\0c", 4) == 0);
}

TEST_CASE("an empty file maps to nothing") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "empty", "");
  const io::MappedFile file(scratch / "empty");
  CHECK(file.size() == 0);
  CHECK(file.data() == nullptr);
}

TEST_CASE("what cannot be mapped is named") {
  const test::ScratchFolder scratch;
  test::expect_error(core::ExitCode::bad_input, {(scratch / "missing").string(), "No such file"},
                     [&] { io::MappedFile file(scratch / "missing"); });
  test::expect_error(core::ExitCode::bad_input, {scratch.path().string(), "not a regular file"},
                     [&] { io::MappedFile file(scratch.path()); });
}
