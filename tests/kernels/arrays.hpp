// SPDX-License-Identifier: Apache-2.0
// Arrays for the kernels' tests: reproducible values, and comparison with a reference in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/random.hpp"
#include "kernels/bfloat16.hpp"
#include "tests/support/catch.hpp"

namespace caravan::kernels::test {

/// `count` values uniform in [-scale, scale), already rounded to T, so that the reference starts from the same ones.
template <typename T>
std::vector<T> random_values(std::uint64_t seed, std::int64_t count, double scale) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    const double unit = core::uniform(seed, static_cast<std::uint64_t>(i));
    values.push_back(from_float<T>(static_cast<float>(scale * (2 * unit - 1))));
  }
  return values;
}

inline std::vector<std::uint64_t> random_tokens(std::int64_t count) {
  std::vector<std::uint64_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) tokens.push_back(core::token_identity(3, static_cast<std::uint32_t>(i)));
  return tokens;
}

template <typename T>
std::vector<double> widen(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T& value : values) wide.push_back(static_cast<double>(to_float(value)));
  return wide;
}

/// Relative tolerance of one result that was computed in fp32 and rounded to T: a few roundings of 2^-24 for float;
/// half a unit in the last place of 8 bits, 2^-8, and the fp32 error before it for Bf16.
template <typename T>
constexpr double tolerance = 1e-6;
template <>
constexpr double tolerance<Bf16> = 1.001 / 256;

/// |actual - expected| <= tolerance<T> * |expected| + absolute for all elements.
template <typename T>
void check_close(const std::vector<T>& actual, const std::vector<double>& expected, double absolute) {
  REQUIRE(actual.size() == expected.size());
  std::size_t wrong = 0;
  std::size_t worst = 0;
  double excess = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double over = std::fabs(static_cast<double>(to_float(actual[i])) - expected[i]) -
                        tolerance<T> * std::fabs(expected[i]) - absolute;
    if (over <= 0) continue;  // false for NaN, which is never close
    if (wrong++ == 0 || !(over <= excess)) {
      excess = over;
      worst = i;
    }
  }
  INFO(wrong << " elements differ; element " << worst << " is " << (actual.empty() ? 0.0F : to_float(actual[worst]))
             << ", expected " << (expected.empty() ? 0.0 : expected[worst]));
  CHECK(wrong == 0);
}

}  // namespace caravan::kernels::test
