// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotary.hpp"

#include "core/error.hpp"
#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

TEMPLATE_TEST_CASE("rotary turns the pairs (i, i + d/2) and inverse turns them back", "", float, Bf16) {
  constexpr std::int64_t tokens = 6;
  constexpr std::int64_t heads = 3;
  const std::vector<std::int32_t> positions{0, 1, 2, 4095, 131071, 7};  // any order, as after packing
  for (const std::int64_t head_dim : {2, 6, 128, 160}) {
    const std::int64_t stride = heads * head_dim + 5;  // q, k and v stand side by side
    const std::int64_t half = head_dim / 2;
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < half; ++i) {
      frequency.push_back(static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half))));
    }
    const auto x = random_values<TestType>(1, tokens * stride, 2);
    const auto in = widen(x);
    auto expected = in;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t head = 0; head < heads; ++head) {
        for (std::int64_t i = 0; i < half; ++i) {
          const float angle =
              static_cast<float>(positions[static_cast<std::size_t>(t)]) * frequency[static_cast<std::size_t>(i)];
          const double c = std::cos(static_cast<double>(angle));
          const double s = std::sin(static_cast<double>(angle));
          const auto low = static_cast<std::size_t>(t * stride + head * head_dim + i);
          const std::size_t high = low + static_cast<std::size_t>(half);
          expected[low] = in[low] * c - in[high] * s;
          expected[high] = in[high] * c + in[low] * s;
        }
      }
    }
    auto out = x;
    rotary(Execution{}, out.data(), tokens, heads, head_dim, stride, positions.data(), frequency.data(), false);
    check_close(out, expected, 1e-6);  // two products of up to 2 with an error of 1e-7 each, and their difference
    rotary(Execution{}, out.data(), tokens, heads, head_dim, stride, positions.data(), frequency.data(), true);
    // Values up to 2.9. The first rounding, 2.9 / 256, comes back from both elements of a pair.
    check_close(out, in, std::is_same_v<TestType, float> ? 2e-6 : 2 * 2.9 / 256);
  }
}

TEST_CASE("rotary of no tokens does nothing, and an odd head is refused") {
  float x = 3;
  const std::int32_t position = 1;
  const float frequency = 1;
  rotary(Execution{}, &x, 0, 1, 2, 2, &position, &frequency, false);
  CHECK(x == 3);
  CHECK_THROWS_AS(rotary(Execution{}, &x, 1, 1, 3, 3, &position, &frequency, false), caravan::core::Error);
}
