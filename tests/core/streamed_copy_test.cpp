// SPDX-License-Identifier: Apache-2.0
#include "core/streamed_copy.hpp"

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan;

TEST_CASE("a streamed copy writes its bytes and no others, at any alignment and length") {
  constexpr std::size_t room = 1024;
  std::vector<std::uint8_t> source(room);
  std::iota(source.begin(), source.end(), std::uint8_t{1});
  for (std::size_t to = 0; to < 66; to += 3) {
    for (std::size_t from = 0; from < 18; ++from) {
      for (const std::size_t bytes : {0, 1, 15, 63, 64, 65, 127, 128, 129, 500, 900}) {
        std::vector<std::uint8_t> expected(room, 0), copied(room, 0);
        for (std::size_t i = 0; i < bytes; ++i) expected[to + i] = source[from + i];
        core::streamed_copy(copied.data() + to, source.data() + from, bytes);
        if (copied != expected) FAIL("target + " << to << ", source + " << from << ", " << bytes << " bytes");
      }
    }
  }
}
