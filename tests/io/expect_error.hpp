// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::test {

/// Runs `action`, which must throw core::Error with this exit code and a message that holds every one of `parts`.
template <typename Action>
void expect_error(core::ExitCode code, const std::vector<std::string>& parts, Action&& action) {
  try {
    action();
  } catch (const core::Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    for (const std::string& part : parts) {
      INFO("expected: " << part);
      CHECK(std::string(error.what()).find(part) != std::string::npos);
    }
    return;
  }
  FAIL("nothing was thrown");
}

}  // namespace caravan::test
