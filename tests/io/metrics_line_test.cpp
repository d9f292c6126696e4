// SPDX-License-Identifier: Apache-2.0
#include "io/metrics_line.hpp"

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan;
using nlohmann::json;

TEST_CASE("docs/metrics.md describes the fields of a line of metrics.jsonl, in their order") {
  std::vector<std::string> fields;
  io::MetricsLine line;
  io::MetricsLine::describe(line, [&](const char* name, const auto&, const std::string& unit, const std::string& when) {
    fields.push_back("| `" + std::string(name) + "` | " + unit + (unit.empty() ? "" : " ") + "| " + when + " | ");
  });
  std::ifstream page(CARAVAN_SOURCE_TREE "/docs/metrics.md");
  std::size_t row = 0;
  for (std::string text; std::getline(page, text);) {
    if (!text.starts_with("| `")) continue;
    REQUIRE(row < fields.size());
    CHECK(text.substr(0, fields[row].size()) == fields[row]);
    CHECK(text.size() > fields[row].size() + 10);
    ++row;
  }
  CHECK(row == fields.size());
}

TEST_CASE("a line of metrics survives JSON, and what is not there stays away") {
  io::MetricsLine line;
  line.step = 12;
  line.restart = 2;
  line.loss = 0.1 + 0.2;
  line.tokens = std::int64_t{1} << 60;
  line.skipped = true;
  line.profile = json::parse(R"({"seconds": 0.5})");
  const json wanted{{"step", 12},        {"restart", 2},
                    {"loss", 0.1 + 0.2}, {"tokens", std::int64_t{1} << 60},
                    {"skipped", true},   {"profile", {{"seconds", 0.5}}}};
  CHECK(line.to_json() == wanted);
  const auto again = io::MetricsLine::from_json(json::parse(line.to_json().dump()));
  REQUIRE(again);
  CHECK(again->to_json() == wanted);
}

TEST_CASE("a line of metrics is read whatever else it holds, but not without its step") {
  const auto line =
      io::MetricsLine::from_json(json::parse(R"({"step": 3, "loss": null, "lr": 1, "new": [], "profile": 4})"));
  REQUIRE(line);
  CHECK(line->step == 3);
  CHECK(line->restart == 0);
  CHECK(std::isnan(line->loss.value()));
  CHECK_FALSE(line->ce_loss);
  CHECK(line->lr == 1.0);
  CHECK_FALSE(line->profile);
  for (const char* text :
       {"[1]", "3", "{}", R"({"step": 1.5})", R"({"step": "1"})", R"({"step": 1, "restart": null})"}) {
    CAPTURE(text);
    CHECK_FALSE(io::MetricsLine::from_json(json::parse(text)));
  }
}
