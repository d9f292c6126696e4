// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace caravan::kernels {

/// One bfloat16 element: the upper half of an IEEE fp32. Laid out like torch's c10::BFloat16.
struct Bf16 {
  std::uint16_t bits = 0;
};

constexpr float to_float(float value) { return value; }
constexpr float to_float(Bf16 value) { return core::bf16_to_float(value.bits); }

/// Rounds to the element type, to nearest even.
template <typename T>
constexpr T from_float(float value) = delete;
template <>
constexpr float from_float<float>(float value) {
  return value;
}
template <>
constexpr Bf16 from_float<Bf16>(float value) {
  return {core::float_to_bf16(value)};
}

}  // namespace caravan::kernels
