// SPDX-License-Identifier: Apache-2.0
#include "kernels/runtime.hpp"

#include <string>
#include <vector>

#include "core/error.hpp"
#include "kernels/adamw.hpp"
#include "tests/support/catch.hpp"

using namespace caravan::kernels;

TEST_CASE("a second Runtime inside the first neither starts nor ends anything") {
  const std::vector<float> values(10000, 2.0F);
  { const Runtime inner; }
  std::vector<double> scratch(static_cast<std::size_t>(sum_of_squares_scratch(10000)));
  double sum = 0;
  sum_of_squares(Execution{}, values.data(), 10000, scratch.data(), &sum);
  CHECK(sum == 40000.0);
}

TEST_CASE("kernels refuse a device that this build does not compute on") {
  if (caravan::device::present()) return;
  const std::vector<float> values(10, 2.0F);
  const Execution execution{{.kind = caravan::device::Kind::device, .index = 2, .stream = nullptr}};
  std::string refusal;
  try {
    double scratch = 0, sum = 0;
    sum_of_squares(execution, values.data(), 10, &scratch, &sum);
  } catch (const caravan::core::Error& error) {
    CHECK(error.code() == caravan::core::ExitCode::internal);
    refusal = error.what();
  }
  CAPTURE(refusal);
  CHECK(refusal.find("kernels of this build do not run on device 2") != std::string::npos);
}

TEST_CASE("backend_name names the space and the version") {
  const std::string name = backend_name();
  const auto comma = name.find(", Kokkos ");
  REQUIRE(comma != std::string::npos);
  CHECK(comma > 0);
  CHECK(name.find('.', comma) != std::string::npos);
}
