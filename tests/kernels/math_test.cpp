// SPDX-License-Identifier: Apache-2.0
#include "kernels/detail/math.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan::kernels::detail;

TEST_CASE("exponential agrees with exp to 2e-7 over its whole range and saturates outside") {
  double worst = 0;
  for (int i = 0; i <= 400000; ++i) {
    const float x = -87.3F + 175.3F * static_cast<float>(i) / 400000.0F;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(static_cast<double>(exponential(x)) - exact) / exact);
  }
  CHECK(worst < 2e-7);
  CHECK(exponential(0.0F) == 1.0F);
  CHECK(exponential(-std::numeric_limits<float>::infinity()) == exponential(-87.3F));
  CHECK(exponential(std::numeric_limits<float>::infinity()) == exponential(88.0F));
  CHECK(exponential(-87.3F) < 1.3e-38F);
  CHECK(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("normal agrees with erfc to 1e-7") {
  double worst_below = 0;
  double worst_density = 0;
  for (int i = -200000; i <= 200000; ++i) {
    const float x = static_cast<float>(i) * 1e-4F;
    const auto wide = static_cast<double>(x);
    const Normal result = normal(x);
    worst_below =
        std::max(worst_below, std::fabs(static_cast<double>(result.below) - 0.5 * std::erfc(-wide / std::sqrt(2.0))));
    const double density = std::exp(-0.5 * wide * wide) / std::sqrt(2 * std::acos(-1.0));
    worst_density = std::max(worst_density, std::fabs(static_cast<double>(result.density) - density));
  }
  CHECK(worst_below < 1e-7);
  CHECK(worst_density < 1e-7);
  // Far out a GELU is its argument or nothing.
  CHECK(normal(100.0F).below == 1.0F);
  CHECK(normal(-100.0F).below < 1e-37F);
  CHECK(std::isnan(normal(std::numeric_limits<float>::quiet_NaN()).below));
}

TEST_CASE("rotation agrees with cos and sin to 1e-7 for the angles of long contexts") {
  double worst = 0;
  for (int i = -300000; i <= 300000; ++i) {
    // From hundredths of a radian to a million.
    const float angle = static_cast<float>(i) * (i % 3 == 0 ? 0.00037F : i % 3 == 1 ? 0.11F : 3.7F);
    const auto wide = static_cast<double>(angle);
    const Rotation result = rotation(angle);
    worst = std::max(worst, std::fabs(static_cast<double>(result.cosine) - std::cos(wide)));
    worst = std::max(worst, std::fabs(static_cast<double>(result.sine) - std::sin(wide)));
  }
  CHECK(worst < 1e-7);
  CHECK(rotation(0.0F).cosine == 1.0F);
  CHECK(rotation(0.0F).sine == 0.0F);
}

TEST_CASE("fixed_order_sum adds every term once, whatever the count") {
  for (int count = 0; count < 70; ++count) {
    const int sum = fixed_order_sum<int>(count, [](int i) { return i * i + 1; });
    int expected = 0;
    for (int i = 0; i < count; ++i) expected += i * i + 1;
    CHECK(sum == expected);
  }
}
