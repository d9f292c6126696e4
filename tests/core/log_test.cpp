// SPDX-License-Identifier: Apache-2.0
// Lines to standard output and standard error that nobody reads, or reads late.
#include "core/log.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>

#include "core/leave.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/full_pipe.hpp"

namespace caravan::core {
namespace {

/// `work` in a process of its own, whose output and errors are this descriptor's, and which then ends as main() does;
/// one that hangs is killed after a minute.
pid_t start(int output, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child != 0) return child;
  alarm(60);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  work();
  std::exit(3);
}

/// Its exit code; −1: a signal ended it.
int end_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string padded(int number) { return concat("line ", number, ' ', std::string(100, '.')); }

/// What a pipe that was full of zeros gives from now on.
class Reader {
 public:
  explicit Reader(test::FullPipe& pipe) : end_(pipe.ends[0]) {}

  /// Until a line with this in it is whole, or, with an empty one, until nobody can write any more.
  void read_until(const std::string& wanted) {
    std::array<char, 4096> bytes{};
    while (wanted.empty() || text_.find(wanted) == std::string::npos || text_.back() != '\n') {
      const ssize_t got = read(end_, bytes.data(), bytes.size());
      if (got <= 0) return;
      for (ssize_t i = 0; i < got; ++i) {
        if (bytes[static_cast<std::size_t>(i)] != '\0') text_ += bytes[static_cast<std::size_t>(i)];
      }
    }
  }
  const std::string& text() const { return text_; }

 private:
  int end_;
  std::string text_;
};

}  // namespace

TEST_CASE("lines that nobody reads hold nobody up, and log.txt has them all") {
  const test::ScratchFolder scratch;
  const test::FullPipe pipe;
  constexpr int lines = 20'000;  // 2 MiB
  const pid_t child = start(pipe.ends[1], [&] {
    log_to_file(scratch / "log.txt");
    for (int i = 0; i < lines; ++i) log_line(padded(i));
    log_error("the end");
  });
  CHECK(end_of(child) == 3);
  const std::vector<std::string> kept = lines_of(test::read_text(scratch / "log.txt"));
  REQUIRE(kept.size() == lines + 1);
  for (int i = 0; i < lines; ++i) REQUIRE(kept[static_cast<std::size_t>(i)] == padded(i));
  CHECK(kept.back() == "error: the end");
}

TEST_CASE("lines that are read late come in order, and lost ones are counted in place") {
  const test::ScratchFolder scratch;
  test::FullPipe pipe;
  constexpr int lines = 20'000;
  const pid_t child = start(pipe.ends[1], [&] {
    for (int i = 0; i < lines; ++i) log_line(padded(i));
    test::write_text(scratch / "logged", "");
    while (!std::filesystem::exists(scratch / "go on")) usleep(1000);
    log_line("the last one");
  });
  close(std::exchange(pipe.ends[1], open("/dev/null", O_WRONLY)));
  while (!std::filesystem::exists(scratch / "logged")) usleep(1000);
  Reader reader(pipe);
  reader.read_until("missing");
  test::write_text(scratch / "go on", "");
  reader.read_until("");
  CHECK(end_of(child) == 3);
  const std::vector<std::string> got = lines_of(reader.text());
  REQUIRE(got.size() > 2);
  const auto first_lost = static_cast<int>(got.size()) - 2;
  CHECK(first_lost > 1000);  // a quarter of a MiB was kept
  for (int i = 0; i < first_lost; ++i) REQUIRE(got[static_cast<std::size_t>(i)] == padded(i));
  CHECK(got[got.size() - 2] ==
        concat("warning: ", lines - first_lost, " lines are missing here, since nobody read them"));
  CHECK(got.back() == "the last one");
}

TEST_CASE("what is said last comes out, however the process ends") {
  const auto said = [](const std::function<void()>& ending) {
    std::array<int, 2> ends{};
    REQUIRE(pipe(ends.data()) == 0);
    const pid_t child = start(ends[1], [&] {
      for (int i = 0; i < 100; ++i) log_line(padded(i));
      ending();
    });
    close(ends[1]);
    std::string text;
    std::array<char, 512> bytes{};
    for (ssize_t got = 0; (got = read(ends[0], bytes.data(), bytes.size())) > 0;)
      text.append(bytes.data(), static_cast<std::size_t>(got));
    close(ends[0]);
    return std::pair(end_of(child), lines_of(text));
  };
  std::pair<int, std::vector<std::string>> end;
  SECTION("by exit()") {
    end = said([] { log_error("no good"); });
    CHECK(end.first == 3);
  }
  SECTION("at once") {
    end = said([] {
      log_error("no good");
      _exit(7);
    });
    CHECK(end.first == 7);
  }
  SECTION("by leave_at_once()") {
    end = said([] { leave_at_once(ExitCode::peer_lost, "no good"); });
    CHECK(end.first == 76);
  }
  REQUIRE(end.second.size() == 101);
  for (int i = 0; i < 100; ++i) CHECK(end.second[static_cast<std::size_t>(i)] == padded(i));
  CHECK(end.second.back() == "error: no good");
}

TEST_CASE("a reader that has gone ends nobody") {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = start(ends[1], [&] {
    close(ends[0]);
    for (int i = 0; i < 100; ++i) log_line(padded(i));
  });
  for (const int one : ends) close(one);
  CHECK(end_of(child) == 3);
}

TEST_CASE("lines of several threads stay whole") {
  const test::ScratchFolder scratch;
  const int file = open((scratch / "output").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const pid_t child = start(file, [] {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 100; ++i) log_line(padded(t));
      });
    }
  });
  close(file);
  CHECK(end_of(child) == 3);
  std::array<int, 4> counts{};
  for (const std::string& line : lines_of(test::read_text(scratch / "output"))) {
    for (int t = 0; t < 4; ++t) counts[static_cast<std::size_t>(t)] += line == padded(t) ? 1 : 0;
  }
  CHECK(counts == std::array<int, 4>{100, 100, 100, 100});
}

}  // namespace caravan::core
