// SPDX-License-Identifier: Apache-2.0
#include "parallel/token_axis.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace caravan::parallel {
namespace {

template <typename To, typename From>
at::Tensor padded(std::span<const From> values, std::int64_t length, To pad, at::ScalarType type, at::Device device) {
  at::Tensor tensor = at::empty({length}, at::TensorOptions(type));
  To* out = tensor.data_ptr<To>();
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<To>(values[i]);
  std::fill(out + values.size(), out + length, pad);
  return tensor.to(device);
}

}  // namespace

TokenAxis::TokenAxis(const TokenRows& rows, const Context& context)
    : real(static_cast<std::int64_t>(rows.ids.size())),
      document_starts(rows.document_starts.begin(), rows.document_starts.end()) {
  CARAVAN_CHECK(rows.positions.size() == rows.ids.size() && rows.sequence.size() == rows.ids.size() &&
                rows.identity.size() == rows.ids.size());
  if (document_starts.empty()) document_starts.push_back(0);
  CARAVAN_CHECK(document_starts.front() == 0 && document_starts.back() == real);
  const std::int64_t tp = context.grid.tp();
  tokens = (real + tp - 1) / tp * tp;
  shard = tokens / tp;
  shard_begin = shard * context.grid.tp_rank();
  for (const std::int32_t s : rows.sequence) sequences = std::max<std::int64_t>(sequences, s + 1);
  ids = padded<std::int64_t>(rows.ids, tokens, std::int64_t{-1}, at::kLong, context.device);
  positions = padded<std::int32_t>(rows.positions, tokens, std::int32_t{0}, at::kInt, context.device);
  sequence = padded<std::int32_t>(rows.sequence, tokens, std::int32_t{-1}, at::kInt, context.device);
  identity = padded<std::int64_t>(rows.identity, tokens, std::int64_t{0}, at::kLong, context.device);
}

TokenTargets TokenAxis::targets_of(std::span<const std::int32_t> targets) const {
  CARAVAN_CHECK(static_cast<std::int64_t>(targets.size()) == real);
  const std::int64_t count = std::count_if(targets.begin(), targets.end(), [](std::int32_t id) { return id >= 0; });
  at::Tensor rows = at::empty({2, count}, at::kLong);
  auto* row = rows.data_ptr<std::int64_t>();
  std::int64_t* id = row + count;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    *row++ = static_cast<std::int64_t>(t);
    *id++ = targets[t];
  }
  rows = rows.to(ids.device());
  return {rows[0], rows[1]};
}

}  // namespace caravan::parallel
