// SPDX-License-Identifier: Apache-2.0
#include "kernels/runtime.hpp"

#include <vector>

#include "kernels/adamw.hpp"
#include "tests/support/catch.hpp"

using namespace caravan::kernels;

TEST_CASE("a second Runtime inside the first neither starts nor ends anything") {
  const std::vector<float> values(10000, 2.0F);
  { const Runtime inner; }
  CHECK(sum_of_squares(Execution{}, values.data(), 10000) == 40000.0);
}

TEST_CASE("backend_name names the space and the version") {
  const std::string name = backend_name();
  const auto comma = name.find(", Kokkos ");
  REQUIRE(comma != std::string::npos);
  CHECK(comma > 0);
  CHECK(name.find('.', comma) != std::string::npos);
}
