// SPDX-License-Identifier: Apache-2.0
#include "core/finite.hpp"

#include <algorithm>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan;
using core::DType;

namespace {

/// Puts `bad` at every place in turn, among the largest values that are finite, and looks for it.
template <typename Bits>
void find_each(DType dtype, Bits largest, const std::vector<Bits>& bad) {
  CAPTURE(core::name_of(dtype));
  for (const std::int64_t count : {1, 3, 1024, 1500}) {  // less than, as many as, and more than one block
    std::vector<Bits> values(static_cast<std::size_t>(count), largest);
    REQUIRE(core::first_not_finite(values.data(), dtype, count) == -1);
    for (const Bits value : bad) {
      for (std::int64_t at = 0; at < count; at += std::max<std::int64_t>(1, count / 7)) {
        values.assign(values.size(), largest);
        values[static_cast<std::size_t>(at)] = value;
        values.back() = at + 1 < count ? bad.front() : values.back();  // the first one is meant
        REQUIRE(core::first_not_finite(values.data(), dtype, count) == at);
      }
    }
  }
}

}  // namespace

TEST_CASE("the first value that is not finite is found, in every floating type") {
  // Largest finite value; then infinity, minus infinity, a quiet and a signalling NaN, by their bits.
  find_each<std::uint32_t>(DType::f32, 0x7f7fffff, {0x7f800000, 0xff800000, 0x7fc00000, 0xff800001});
  find_each<std::uint16_t>(DType::bf16, 0x7f7f, {0x7f80, 0xff80, 0x7fc0, 0xff81});
  find_each<std::uint16_t>(DType::f16, 0x7bff, {0x7c00, 0xfc00, 0x7e00, 0xfc01});
  find_each<std::uint64_t>(DType::f64, 0x7fefffffffffffff,
                           {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff0000000000001});
}

TEST_CASE("integers are finite whatever their bits") {
  const std::vector<std::int64_t> values(3, -1);
  CHECK(core::first_not_finite(values.data(), DType::i64, 3) == -1);
  CHECK(core::first_not_finite(values.data(), DType::i32, 6) == -1);
  CHECK(core::first_not_finite(values.data(), DType::u8, 24) == -1);
  CHECK(core::first_not_finite(values.data(), DType::f32, 0) == -1);
}
