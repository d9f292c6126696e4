// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>

#include <csignal>

#include "core/host_name.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;

namespace {

std::size_t entries(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST_CASE("two hosts that write the same file have a temporary file each") {
  const test::ScratchFolder folder;
  const io::AtomicFile file(folder / "a");
  const std::string own = core::concat("a.tmp-", core::host_name(), "-", ::getpid());
  CHECK(std::filesystem::exists(folder / own));
}

TEST_CASE("a file that is not committed leaves the former one and nothing else") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "file", "before");
  {
    io::AtomicFile file(scratch / "file");
    file.write("half of it");
    CHECK(test::read_text(scratch / "file") == "before");
  }
  CHECK(test::read_text(scratch / "file") == "before");
  CHECK(entries(scratch.path()) == 1);
}

TEST_CASE("a committed file replaces the former one") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "file", "before");
  io::write_file_atomically(scratch / "file", "after");
  CHECK(io::read_file(scratch / "file") == "after");
  CHECK(entries(scratch.path()) == 1);
}

TEST_CASE("a full storage has its own exit code") {
  // /dev/full fails every write with ENOSPC.
  const io::FileDescriptor full(::open("/dev/full", O_WRONLY));
  REQUIRE(full.is_open());
  test::expect_error(core::ExitCode::storage_full, {"/dev/full", "No space left"},
                     [&] { io::write_all(full.get(), "text", 4, "/dev/full"); });
}

TEST_CASE("a write that the system cuts off is an error and leaves the former file") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "file", "before");
  rlimit former{};
  getrlimit(RLIMIT_FSIZE, &former);
  const rlimit small{4096, former.rlim_max};
  const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  test::expect_error(core::ExitCode::bad_input, {(scratch / "file").string(), "File too large"},
                     [&] { io::write_file_atomically(scratch / "file", std::string(10000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &former);
  std::signal(SIGXFSZ, former_handler);
  CHECK(test::read_text(scratch / "file") == "before");
  CHECK(entries(scratch.path()) == 1);
}

TEST_CASE("a folder that does not exist is named") {
  const test::ScratchFolder scratch;
  test::expect_error(core::ExitCode::bad_input, {(scratch / "no/file").string()},
                     [&] { io::write_file_atomically(scratch / "no/file", "text"); });
}
