// SPDX-License-Identifier: Apache-2.0
#include "core/text.hpp"

#include "tests/support/catch.hpp"

using namespace caravan::core;

TEST_CASE("the nearest match allows a slip and no more") {
  const std::vector<std::string> names{"steps", "sequence", "seed", "epochs", "lr"};
  CHECK(nearest_match("stesp", names) == "steps");  // swap
  CHECK(nearest_match("step", names) == "steps");   // insert
  CHECK(nearest_match("seqence", names) == "sequence");
  CHECK(nearest_match("epoch", names) == "epochs");
  CHECK(nearest_match("sead", names) == "seed");  // replace
  CHECK(nearest_match("seed", names) == "seed");
  CHECK(nearest_match("temperature", names).empty());
  CHECK(nearest_match("steps", {}).empty());
}

TEST_CASE("bytes are printed with three digits") {
  CHECK(format_bytes(0) == "0 bytes");
  CHECK(format_bytes(412) == "412 bytes");
  CHECK(format_bytes(999) == "999 bytes");
  CHECK(format_bytes(1000) == "1 kB");
  CHECK(format_bytes(18'000'000) == "18 MB");
  CHECK(format_bytes(3'523'215'360) == "3.52 GB");
  CHECK(format_bytes(999'499) == "999 kB");
  CHECK(format_bytes(999'600) == "1 MB");
}

TEST_CASE("durations are printed in two units") {
  CHECK(format_duration(4.1) == "4.1 s");
  CHECK(format_duration(-1) == "0.0 s");
  CHECK(format_duration(59.96) == "1 min 00 s");
  CHECK(format_duration(192) == "3 min 12 s");
  CHECK(format_duration(7500) == "2 h 05 min");
}

TEST_CASE("lists are joined as a sentence") {
  CHECK(join({}).empty());
  CHECK(join({"a"}) == "a");
  CHECK(join({"a", "b"}) == "a and b");
  CHECK(join_numbers({1, 2, 4, 8}) == "1, 2, 4 or 8");
  CHECK(join_numbers({1, 2, 4, 8}, " and ") == "1, 2, 4 and 8");
}

TEST_CASE("divisors are those of trial division") {
  for (std::int64_t n = 1; n <= 60; ++n) {
    for (const std::int64_t most : {1, 7, 60}) {
      std::vector<std::int64_t> expected;
      for (std::int64_t d = 1; d <= most; ++d) {
        if (d <= n && n % d == 0) expected.push_back(d);
      }
      CHECK(divisors(n, most) == expected);
    }
  }
}
