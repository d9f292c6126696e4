// SPDX-License-Identifier: Apache-2.0
#include "io/system_error.hpp"

#include <cerrno>

#include "core/system_error.hpp"
#include "io/atomic_file.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;

TEST_CASE("a storage that fails is another start's, a full one or a wrong path a person's") {
  const auto thrown = [](int error) { io::throw_system_error("read", "RUN/shard", error); };
  for (const int error : {EIO, ESTALE, EREMOTEIO, ETIMEDOUT, ENOTCONN, EHOSTDOWN, ENETDOWN, ESHUTDOWN, ECONNRESET}) {
    CAPTURE(error);
    test::expect_error(core::ExitCode::peer_lost, {"cannot read RUN/shard: ", "the storage failed", "start again"},
                       [&] { thrown(error); });
  }
  for (const int error : {ENOSPC, EDQUOT}) {
    test::expect_error(core::ExitCode::storage_full, {"RUN/shard", "free space"}, [&] { thrown(error); });
  }
  for (const int error : {ENOENT, EACCES, EPERM, ENOTDIR, EMFILE}) {
    CAPTURE(error);
    try {
      thrown(error);
      FAIL("nothing was thrown");
    } catch (const core::SystemError& refused) {
      CHECK(refused.code() == core::ExitCode::bad_input);
      CHECK(refused.system_error() == error);
      CHECK(std::string(refused.what()).find("start again") == std::string::npos);
    }
  }
}

TEST_CASE("a file's size, none without a file, and an error where the system cannot say") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "file", "12345");
  CHECK(io::size_of_file(scratch / "file") == 5);
  CHECK_FALSE(io::size_of_file(scratch / "missing"));
  CHECK_FALSE(io::size_of_file(scratch / "file/below"));
  std::filesystem::create_symlink("loop", scratch / "loop");
  test::expect_error(core::ExitCode::bad_input, {(scratch / "loop").string()},
                     [&] { io::size_of_file(scratch / "loop"); });
}

TEST_CASE("a file is read whole") {
  const test::ScratchFolder scratch;
  const std::string text(3'000'000, 'x');
  test::write_text(scratch / "file", text + '\0' + "end");
  CHECK(io::read_file(scratch / "file") == text + '\0' + "end");
  test::write_text(scratch / "file", "");
  CHECK(io::read_file(scratch / "file").empty());
  test::expect_error(core::ExitCode::bad_input, {"not a regular file"}, [&] { io::read_file(scratch.path()); });
}
