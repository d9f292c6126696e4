// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/dtype.hpp"
#include "layout/rectangle.hpp"

namespace caravan::checkpoint {

/// A rectangle of a named global tensor that one rank writes. Tensors have at least one dimension.
struct Piece {
  std::string name;
  layout::Shape shape;  // of the whole tensor
  core::DType dtype = core::DType::f32;
  layout::Rectangle part;
  /// Writes rows [row_begin, row_end) of the piece (indices along dimension 0 of `part`, from 0), row-major in dtype,
  /// to `out`. Asked for one block at a time, so that memory stays bounded wherever the data come from.
  std::function<void(std::int64_t row_begin, std::int64_t row_end, void* out)> fill;
  /// Where the same elements lie already, row-major, so that fill need not be asked; null: nowhere yet.
  const void* memory = nullptr;
};

/// A piece whose elements lie in memory, row-major; the memory lives until the piece is written.
Piece make_piece(std::string name, layout::Shape shape, core::DType dtype, layout::Rectangle part, const void* data);

/// Bytes of one row (an index along dimension 0) of a part.
std::int64_t row_bytes(const layout::Rectangle& part, core::DType dtype);

/// Rows of a part that make one block, the unit of a checksum: as many as fit into 16 MiB, at least one.
std::int64_t rows_per_block(const layout::Rectangle& part, core::DType dtype);

}  // namespace caravan::checkpoint
