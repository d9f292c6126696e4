// SPDX-License-Identifier: Apache-2.0
#include "io/copy_converted.hpp"

#include <cstring>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan;
using core::DType;

TEST_CASE("a part is copied and converted as element by element") {
  // Rows of 700,000 elements, so that the part takes more than one chunk.
  const layout::Rectangle source{{2, 0}, {3, 700'000}};
  const layout::Rectangle part{{3, 10}, {2, 600'000}};
  const layout::Rectangle target{{3, 5}, {2, 650'000}};
  std::vector<float> from(static_cast<std::size_t>(source.count()));
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i) * 0.37F;
  // One byte into the buffer: sources need no alignment.
  std::vector<char> shifted(from.size() * 4 + 1);
  std::memcpy(shifted.data() + 1, from.data(), from.size() * 4);
  std::vector<std::uint16_t> to(static_cast<std::size_t>(target.count()), 0xffff);
  io::copy_converted(part, source, shifted.data() + 1, DType::f32, target, to.data(), DType::bf16);

  bool same = true;
  for (std::int64_t r = 0; r < 2; ++r) {
    for (std::int64_t c = 0; c < 650'000; ++c) {
      const std::int64_t column = c + 5;
      const bool inside = column >= 10 && column < 600'010;
      const auto expected = inside ? core::float_to_bf16(from[static_cast<std::size_t>((r + 1) * 700'000 + column)])
                                   : std::uint16_t{0xffff};
      same = same && to[static_cast<std::size_t>(r * 650'000 + c)] == expected;
    }
  }
  CHECK(same);
}

TEST_CASE("a scalar is converted") {
  const float value = 1.5F;
  double result = 0;
  io::copy_converted({{}, {}}, {{}, {}}, &value, DType::f32, {{}, {}}, &result, DType::f64);
  CHECK(result == 1.5);
}

TEST_CASE("only floating types convert into each other") {
  CHECK(io::convertible(DType::f32, DType::bf16));
  CHECK(io::convertible(DType::u8, DType::u8));
  CHECK_FALSE(io::convertible(DType::u8, DType::f32));
  CHECK_FALSE(io::convertible(DType::f32, DType::i64));
}
