// SPDX-License-Identifier: Apache-2.0
#include "io/json_lines.hpp"

#include <limits>

#include "io/atomic_file.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using nlohmann::json;

namespace {

const auto up_to_step_2 = [](const json& line) { return line.at("step").get<int>() <= 2; };

}  // namespace

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

TEST_CASE("a broken line in the middle is named") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "m", "{\"step\":1}\nstep 2\n{\"step\":3}\n");
  test::expect_error(core::ExitCode::bad_input, {(scratch / "m").string() + ":2", "not JSON"},
                     [&] { io::cut_json_lines(scratch / "m", up_to_step_2); });
}
