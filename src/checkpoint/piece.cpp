// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/piece.hpp"

#include <algorithm>
#include <cstring>

namespace caravan::checkpoint {

Piece make_piece(std::string name, layout::Shape shape, core::DType dtype, layout::Rectangle part, const void* data) {
  const auto bytes = static_cast<std::size_t>(row_bytes(part, dtype));
  const auto copy = [data, bytes](std::int64_t begin, std::int64_t end, void* out) {
    std::memcpy(out, static_cast<const char*>(data) + static_cast<std::size_t>(begin) * bytes,
                static_cast<std::size_t>(end - begin) * bytes);
  };
  return {std::move(name), std::move(shape), dtype, std::move(part), copy, data};
}

std::int64_t row_bytes(const layout::Rectangle& part, core::DType dtype) {
  auto bytes = static_cast<std::int64_t>(core::size_of(dtype));
  for (std::size_t d = 1; d < part.extent.size(); ++d) bytes *= part.extent[d];
  return bytes;
}

std::int64_t rows_per_block(const layout::Rectangle& part, core::DType dtype) {
  constexpr std::int64_t block_bytes = std::int64_t{16} << 20;
  return std::clamp<std::int64_t>(block_bytes / std::max<std::int64_t>(row_bytes(part, dtype), 1), 1,
                                  std::max<std::int64_t>(part.extent.at(0), 1));
}

}  // namespace caravan::checkpoint
