// SPDX-License-Identifier: Apache-2.0
#include "comm/ordered_sum.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace caravan::comm {
namespace {

template <typename Value>
void reduce_values(const void* parts, int ranks, std::int64_t count, Reduce reduce, void* result) {
  const auto* in = static_cast<const Value*>(parts);
  auto* out = static_cast<Value*>(result);
  std::copy(in, in + count, out);
  for (int r = 1; r < ranks; ++r) {
    const Value* next = in + r * count;
    if (reduce == Reduce::sum) {
      for (std::int64_t i = 0; i < count; ++i) out[i] += next[i];
    } else {
      for (std::int64_t i = 0; i < count; ++i) out[i] = std::max(out[i], next[i]);
    }
  }
}

void reduce_bf16(const void* parts, int ranks, std::int64_t count, Reduce reduce, void* result) {
  const auto* in = static_cast<const std::uint16_t*>(parts);
  auto* out = static_cast<std::uint16_t*>(result);
  for (std::int64_t i = 0; i < count; ++i) {
    float value = core::bf16_to_float(in[i]);
    for (int r = 1; r < ranks; ++r) {
      const float next = core::bf16_to_float(in[r * count + i]);
      value = reduce == Reduce::sum ? value + next : std::max(value, next);
    }
    out[i] = core::float_to_bf16(value);
  }
}

}  // namespace

void reduce_in_rank_order(const void* parts, int ranks, std::int64_t count, core::DType dtype, Reduce reduce,
                          void* result) {
  switch (dtype) {
    case core::DType::f32: return reduce_values<float>(parts, ranks, count, reduce, result);
    case core::DType::f64: return reduce_values<double>(parts, ranks, count, reduce, result);
    case core::DType::i64: return reduce_values<std::int64_t>(parts, ranks, count, reduce, result);
    case core::DType::i32: return reduce_values<std::int32_t>(parts, ranks, count, reduce, result);
    case core::DType::bf16: return reduce_bf16(parts, ranks, count, reduce, result);
    default: core::internal_error("cannot reduce elements of type ", core::name_of(dtype));
  }
}

}  // namespace caravan::comm
