// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "tests/support/catch.hpp"

namespace caravan::test {

/// A pipe that takes no more bytes.
struct FullPipe {
  std::array<int, 2> ends{};
  FullPipe() {
    REQUIRE(pipe(ends.data()) == 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    const std::array<char, 512> bytes{};
    while (write(ends[1], bytes.data(), bytes.size()) > 0) continue;
    fcntl(ends[1], F_SETFL, 0);
  }
  ~FullPipe() {
    for (const int end : ends) close(end);
  }
  FullPipe(const FullPipe&) = delete;
  FullPipe& operator=(const FullPipe&) = delete;
};

}  // namespace caravan::test
