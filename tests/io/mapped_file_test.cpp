// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "core/background_thread.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;

namespace {

/// Runs `work` in a process of its own whose standard error is a file; returns how that ended, as waitpid() tells.
int status_of(const std::filesystem::path& error, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    for (const int fault : {SIGSEGV, SIGABRT}) std::signal(fault, SIG_DFL);  // Catch has handlers
    dup2(open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

bool ended_by(int number, int status) { return WIFSIGNALED(status) && WTERMSIG(status) == number; }

int read_byte(const std::byte* at) { return static_cast<int>(*static_cast<const volatile std::byte*>(at)); }

}  // namespace

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

TEST_CASE("a mapped page that cannot be read ends the process with 76 and the file's name") {
  const test::ScratchFolder scratch;
  constexpr std::size_t bytes = 1 << 16;
  const auto path = scratch / "shared by two jobs", other = scratch / "other", error = scratch / "error";
  for (const auto& file : {path, other}) test::write_text(file, std::string(bytes, 'a'));
  const auto reads = [&](bool in_thread) {
    return status_of(error, [&] {
      const io::MappedFile before(other);
      io::MappedFile opened(path);
      const io::MappedFile file = std::move(opened);
      std::filesystem::resize_file(path, 1);
      const auto read = [&] { read_byte(file.data() + bytes - 1); };
      if (in_thread) {
        core::start_thread("reader", read).join();
      } else {
        read();
      }
    });
  };
  for (const bool in_thread : {false, true}) {
    CAPTURE(in_thread);
    std::filesystem::resize_file(path, bytes);
    const int status = reads(in_thread);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 76);
    const std::string text = test::read_text(error);
    CHECK(text.starts_with("error: cannot read " + path.string() + ": "));
    CHECK(text.ends_with("\n"));
  }
}

TEST_CASE("a fault outside of mapped files ends a process as before") {
  const test::ScratchFolder scratch;
  const auto path = scratch / "file", error = scratch / "error";
  test::write_text(path, "a");
  CHECK(ended_by(SIGBUS, status_of(error, [&] {
                   const std::byte* was = io::MappedFile(path).data();  // and may be mapped there again
                   const io::MappedFile file(path);
                   const int descriptor = open(path.c_str(), O_RDONLY);
                   auto* at = static_cast<std::byte*>(mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, descriptor, 0));
                   if (at == file.data() || was == nullptr) _exit(3);
                   std::filesystem::resize_file(path, 0);
                   read_byte(at);
                 })));
  test::write_text(path, "a");
  CHECK(ended_by(SIGBUS, status_of(error, [&] {
                   const io::MappedFile file(path);
                   kill(getpid(), SIGBUS);
                 })));
  CHECK(ended_by(SIGSEGV, status_of(error, [&] {
                   const io::MappedFile file(path);
                   read_byte(file.data() + sysconf(_SC_PAGESIZE) * 1'000'000);
                 })));
  CHECK(test::read_text(error).empty());
}
