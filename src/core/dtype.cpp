// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.hpp"

#include <array>
#include <cmath>
#include <cstring>

#include "core/error.hpp"

namespace caravan::core {
namespace {

struct Row {
  DType dtype;
  std::size_t bytes;
  std::string_view name;
};
constexpr std::array<Row, 7> table{{{DType::f32, 4, "float32"},
                                    {DType::bf16, 2, "bfloat16"},
                                    {DType::f16, 2, "float16"},
                                    {DType::f64, 8, "float64"},
                                    {DType::i64, 8, "int64"},
                                    {DType::i32, 4, "int32"},
                                    {DType::u8, 1, "uint8"}}};

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t magnitude = bits & 0x7fffU;
  // Exponent and mantissa move to float's places; the multiplication corrects the bias and makes subnormals normal.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const std::uint32_t special = magnitude >= 0x7c00U ? 0x7f800000U : 0U;  // infinity or NaN
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | special | sign);
}

std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (magnitude >= 65520.0F) return static_cast<std::uint16_t>(sign | 0x7c00U);
  if (magnitude == 0) return sign;  // frexp's exponent of zero is 0, that of 0.5
  // nearbyint rounds to nearest even in the default rounding mode; 2^-24 is the smallest subnormal half.
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int shift = exponent < -13 ? -24 : exponent - 11;
  const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, -shift)));
  if (shift == -24) return static_cast<std::uint16_t>(sign | units);
  const auto biased = static_cast<std::uint32_t>(shift + 25);
  return static_cast<std::uint16_t>(sign | ((biased << 10) + (units - 1024U)));
}

double load(const void* source, DType type, std::size_t i) {
  switch (type) {
    case DType::f32: return static_cast<const float*>(source)[i];
    case DType::f64: return static_cast<const double*>(source)[i];
    case DType::bf16: return bf16_to_float(static_cast<const std::uint16_t*>(source)[i]);
    case DType::f16: return half_to_float(static_cast<const std::uint16_t*>(source)[i]);
    default: internal_error("convert: ", name_of(type), " is not a floating type");
  }
}

void store(void* target, DType type, std::size_t i, double value) {
  switch (type) {
    case DType::f32: static_cast<float*>(target)[i] = static_cast<float>(value); return;
    case DType::f64: static_cast<double*>(target)[i] = value; return;
    case DType::bf16: static_cast<std::uint16_t*>(target)[i] = float_to_bf16(static_cast<float>(value)); return;
    case DType::f16: static_cast<std::uint16_t*>(target)[i] = float_to_half(static_cast<float>(value)); return;
    default: internal_error("convert: ", name_of(type), " is not a floating type");
  }
}

}  // namespace

std::size_t size_of(DType dtype) { return table.at(static_cast<std::size_t>(dtype)).bytes; }

std::string_view name_of(DType dtype) { return table.at(static_cast<std::size_t>(dtype)).name; }

DType dtype_from_name(std::string_view name) {
  for (const Row& row : table) {
    if (row.name == name) return row.dtype;
  }
  bad_input("unknown element type \"", name, "\"; known are float32, bfloat16, float16, float64, int64, int32, uint8");
}

void convert(const void* source, DType source_type, void* target, DType target_type, std::size_t count) {
  if (source_type == target_type) {
    if (count > 0) std::memcpy(target, source, count * size_of(source_type));
    return;
  }
  // The pairs that whole models go through; the rest is rare and may be slow.
  if (source_type == DType::f16 && target_type == DType::f32) {
    const auto* in = static_cast<const std::uint16_t*>(source);
    auto* out = static_cast<float*>(target);
    for (std::size_t i = 0; i < count; ++i) out[i] = half_to_float(in[i]);
    return;
  }
  if (source_type == DType::bf16 && target_type == DType::f32) {
    const auto* in = static_cast<const std::uint16_t*>(source);
    auto* out = static_cast<float*>(target);
    for (std::size_t i = 0; i < count; ++i) out[i] = bf16_to_float(in[i]);
    return;
  }
  if (source_type == DType::f32 && target_type == DType::bf16) {
    const auto* in = static_cast<const float*>(source);
    auto* out = static_cast<std::uint16_t*>(target);
    for (std::size_t i = 0; i < count; ++i) out[i] = float_to_bf16(in[i]);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) store(target, target_type, i, load(source, source_type, i));
}

}  // namespace caravan::core
