// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "report/info.hpp"
#include "report/page.hpp"
#include "tests/support/catch.hpp"

namespace caravan::test {

/// Every one of `parts` is in the text.
inline void expect_text(const std::string& text, const std::vector<std::string>& parts) {
  INFO(text);
  for (const std::string& part : parts) {
    INFO("expected: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

/// Of a path, with settings that a test chooses: every file has `settings`.
inline report::Request request_of(const std::filesystem::path& path, bool tensors = false, bool verify = false) {
  report::Request request;
  request.path = path;
  request.tensors = tensors;
  request.verify = verify;
  request.default_settings = {{"train", {{"lr", 0.0002}, {"precision", "bf16"}, {"steps", 10}}}};
  request.read_settings = [](const std::string&) {
    return nlohmann::json{{"train", {{"lr", 0.004}, {"precision", "bf16"}, {"steps", 10}}}};
  };
  return request;
}

/// One problem, which names every one of `parts`; it is in the text as well.
inline void expect_problem(const report::Report& report, const std::vector<std::string>& parts) {
  INFO(report.text);
  REQUIRE(report.problems.size() == 1);
  expect_text(report.problems.front(), parts);
  expect_text(report.text, {"  PROBLEM  ", "  " + report.problems.front() + "\n"});
}

}  // namespace caravan::test
