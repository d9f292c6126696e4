// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace caravan::core {

/// Element types that files and collectives know. bf16 is held as its upper 16 bits in a std::uint16_t.
enum class DType : std::uint8_t { f32, bf16, f16, f64, i64, i32, u8 };

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// "float32", "bfloat16", "float16", "float64", "int64", "int32", "uint8".
std::string_view name_of(DType dtype);

/// The inverse of name_of. Throws (exit 2) on another name.
DType dtype_from_name(std::string_view name);

constexpr float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Rounds to nearest, ties to even; NaN stays NaN.
constexpr std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/// Converts `count` elements between floating types (f32, bf16, f16, f64); equal types are copied, whatever they are.
/// Throws (exit 70) when asked to convert an integer type.
void convert(const void* source, DType source_type, void* target, DType target_type, std::size_t count);

}  // namespace caravan::core
