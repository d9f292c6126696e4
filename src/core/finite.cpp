// SPDX-License-Identifier: Apache-2.0
#include "core/finite.hpp"

#include <algorithm>

namespace caravan::core {
namespace {

// A value is NaN or infinite when all bits of its exponent are set.
template <typename Bits>
std::int64_t first_with(Bits exponent, const void* data, std::int64_t count) {
  const auto* values = static_cast<const Bits*>(data);
  // Whole blocks without a branch first: this runs over every weight of a model.
  constexpr std::int64_t block = 1024;
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const std::int64_t end = std::min(count, begin + block);
    unsigned found = 0;
    for (std::int64_t i = begin; i < end; ++i) found |= (values[i] & exponent) == exponent ? 1U : 0U;
    for (std::int64_t i = begin; found != 0 && i < end; ++i) {
      if ((values[i] & exponent) == exponent) return i;
    }
  }
  return -1;
}

}  // namespace

std::int64_t first_not_finite(const void* values, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::f32: return first_with(std::uint32_t{0x7f800000}, values, count);
    case DType::bf16: return first_with(std::uint16_t{0x7f80}, values, count);
    case DType::f16: return first_with(std::uint16_t{0x7c00}, values, count);
    case DType::f64: return first_with(std::uint64_t{0x7ff0000000000000}, values, count);
    default: return -1;
  }
}

}  // namespace caravan::core
