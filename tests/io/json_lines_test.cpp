// SPDX-License-Identifier: Apache-2.0
#include "io/json_lines.hpp"

#include <sys/syscall.h>

#include <cerrno>
#include <limits>

#include "io/atomic_file.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using nlohmann::json;

namespace {

int refuse_to_sync = 0;  // with this errno value

const auto up_to_step_2 = [](std::size_t, const json& line) {
  return !line.is_discarded() && line.at("step").get<int>() <= 2;
};

}  // namespace

// In the place of the C library's.
extern "C" int fdatasync(int descriptor) {
  if (refuse_to_sync == 0) return static_cast<int>(::syscall(SYS_fdatasync, descriptor));
  errno = refuse_to_sync;
  return -1;
}

TEST_CASE("numbers read back to the same bits") {
  const test::ScratchFolder scratch;
  const std::vector<double> values{0.1, 1.0 / 3, 1e-310, 6.02214076e23, -2.5, static_cast<double>(0.1F)};
  {
    io::JsonLines lines(scratch / "metrics.jsonl");
    for (const double value : values) lines.append({{"loss", value}});
    lines.append({{"loss", std::numeric_limits<double>::quiet_NaN()}});
  }
  std::ifstream file(scratch / "metrics.jsonl");
  std::string line;
  for (const double value : values) {
    REQUIRE(std::getline(file, line));
    CHECK(json::parse(line)["loss"].get<double>() == value);
  }
  REQUIRE(std::getline(file, line));
  CHECK(json::parse(line)["loss"].is_null());
}

TEST_CASE("lines that the storage does not take in the end are an error with the path") {
  const test::ScratchFolder scratch;
  io::JsonLines lines(scratch / "m");
  lines.append({{"step", 1}});
  CHECK_NOTHROW(lines.sync());
  refuse_to_sync = ENOSPC;
  test::expect_error(core::ExitCode::storage_full, {(scratch / "m").string(), "write"}, [&] { lines.sync(); });
  refuse_to_sync = 0;
}

TEST_CASE("a torn last line of a killed process does not spoil the next one") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "m", "{\"step\":1}\n{\"ste");
  io::JsonLines(scratch / "m").append({{"step", 2}});
  CHECK(test::read_text(scratch / "m") == "{\"step\":1}\n{\"step\":2}\n");

  test::write_text(scratch / "n", "{\"ste");
  io::JsonLines(scratch / "n").append({{"step", 2}});
  CHECK(test::read_text(scratch / "n") == "{\"step\":2}\n");
}

TEST_CASE("lines past the checkpoint are cut") {
  const test::ScratchFolder scratch;
  const std::string kept = "{\"step\":1}\n{\"step\":2}\n";
  for (const std::string rest :
       {"", "{\"step\":3}\n", "{\"step\":3}\n{\"step\":4}\n", "{\"step\":3}\n{\"st", "{\"step\":2}"}) {
    test::write_text(scratch / "m", kept + rest);
    io::cut_json_lines(scratch / "m", up_to_step_2);
    CHECK(test::read_text(scratch / "m") == kept);
  }
  test::write_text(scratch / "m", "{\"step\":3}\n");
  io::cut_json_lines(scratch / "m", up_to_step_2);
  CHECK(test::read_text(scratch / "m").empty());

  io::cut_json_lines(scratch / "missing", up_to_step_2);
  CHECK_FALSE(std::filesystem::exists(scratch / "missing"));
}

TEST_CASE("a line that is not JSON is handed out as such, with its number") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "m", "{\"step\":1}\nstep 2\n{\"step\":3}\n{\"st");
  std::vector<std::size_t> good, broken;
  io::read_json_lines(scratch / "m", [&](std::size_t number, const json& line) {
    (line.is_discarded() ? broken : good).push_back(number);
    return true;
  });
  CHECK(good == std::vector<std::size_t>{1, 3});
  CHECK(broken == std::vector<std::size_t>{2});
  io::cut_json_lines(scratch / "m", up_to_step_2);
  CHECK(test::read_text(scratch / "m") == "{\"step\":1}\n");
}

TEST_CASE("the newest whole line of a file is read from its end") {
  const test::ScratchFolder scratch;
  CHECK(io::last_line(scratch / "missing").empty());
  for (const auto& [text, last] : {std::pair("", ""), std::pair("tor", ""), std::pair("\n", ""), std::pair("a\n", "a"),
                                   std::pair("a\nb\n", "b"), std::pair("a\nb\ntor", "b"), std::pair("\na\n", "a")}) {
    test::write_text(scratch / "m", text);
    CAPTURE(text);
    CHECK(io::last_line(scratch / "m") == last);
  }
}
