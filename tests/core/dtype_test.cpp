// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan::core;

namespace {

template <typename Target, typename Source>
Target converted(Source value, DType from, DType to) {
  Target result{};
  convert(&value, from, &result, to, 1);
  return result;
}

float widened(std::uint16_t bits, DType type) { return converted<float>(bits, type, DType::f32); }

}  // namespace

TEST_CASE("every 16-bit number widens and narrows to itself") {
  for (const DType type : {DType::f16, DType::bf16}) {
    std::vector<int> changed;
    for (int bits = 0; bits < 1 << 16; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const float wide = widened(half, type);
      const auto back = converted<std::uint16_t>(wide, DType::f32, type);
      const bool same = std::isnan(wide) ? std::isnan(widened(back, type)) : back == half;
      if (!same) changed.push_back(bits);
    }
    INFO(name_of(type));
    CHECK(changed.empty());
  }
}

TEST_CASE("zero keeps its sign, and half-precision values mean what IEEE 754 says") {
  CHECK(converted<std::uint16_t>(0.0F, DType::f32, DType::f16) == 0);
  CHECK(converted<std::uint16_t>(-0.0F, DType::f32, DType::f16) == 0x8000);
  CHECK(converted<std::uint16_t>(0.0F, DType::f32, DType::bf16) == 0);
  CHECK(widened(0x3c00, DType::f16) == 1.0F);
  CHECK(widened(0x0001, DType::f16) == std::ldexp(1.0F, -24));
  CHECK(widened(0x7bff, DType::f16) == 65504.0F);
}

TEST_CASE("values between two 16-bit numbers go to the nearer, ties to the even one") {
  for (const DType type : {DType::f16, DType::bf16}) {
    const int last = type == DType::f16 ? 0x7bff : 0x7f7f;  // the largest finite number
    std::vector<int> wrong;
    for (int bits = 0; bits < last; ++bits) {
      const float low = widened(static_cast<std::uint16_t>(bits), type);
      const float high = widened(static_cast<std::uint16_t>(bits + 1), type);
      const double middle = (static_cast<double>(low) + static_cast<double>(high)) / 2;  // exact in fp32
      const auto at = [&](double value) {
        return converted<std::uint16_t>(static_cast<float>(value), DType::f32, type);
      };
      const int even = bits % 2 == 0 ? bits : bits + 1;
      const float tie = static_cast<float>(middle);
      const bool right =
          at(middle) == even && at(std::nextafter(tie, low)) == bits && at(std::nextafter(tie, high)) == bits + 1;
      if (!right) wrong.push_back(bits);
    }
    INFO(name_of(type));
    CHECK(wrong.empty());
  }
}
