// SPDX-License-Identifier: Apache-2.0
#include "io/copy_converted.hpp"

#include <algorithm>
#include <vector>

namespace caravan::io {
namespace {

bool is_floating(core::DType dtype) {
  return dtype == core::DType::f32 || dtype == core::DType::bf16 || dtype == core::DType::f16 ||
         dtype == core::DType::f64;
}

// A vector whose elements suit every type.
std::vector<double> buffer_of(std::int64_t elements, core::DType dtype) {
  return std::vector<double>(static_cast<std::size_t>(elements) * core::size_of(dtype) / sizeof(double) + 1);
}

}  // namespace

bool convertible(core::DType from, core::DType to) { return from == to || (is_floating(from) && is_floating(to)); }

void copy_converted(const layout::Rectangle& part, const layout::Rectangle& source, const void* source_data,
                    core::DType source_type, const layout::Rectangle& target, void* target_data,
                    core::DType target_type) {
  if (source_type == target_type) {
    layout::copy_part(part, source, source_data, target, target_data, core::size_of(source_type));
    return;
  }
  if (part.count() == 0) return;
  const std::int64_t rows = part.extent.empty() ? 1 : part.extent[0];
  const std::int64_t row_elements = part.count() / rows;
  const std::int64_t chunk_rows = std::clamp<std::int64_t>((std::int64_t{1} << 19) / row_elements, 1, rows);
  std::vector<double> packed = buffer_of(chunk_rows * row_elements, source_type);
  std::vector<double> converted = buffer_of(chunk_rows * row_elements, target_type);
  for (std::int64_t row = 0; row < rows; row += chunk_rows) {
    layout::Rectangle chunk = part;
    if (!part.extent.empty()) {
      chunk.offset[0] += row;
      chunk.extent[0] = std::min(chunk_rows, rows - row);
    }
    layout::copy_part(chunk, source, source_data, chunk, packed.data(), core::size_of(source_type));
    core::convert(packed.data(), source_type, converted.data(), target_type, static_cast<std::size_t>(chunk.count()));
    layout::copy_part(chunk, chunk, converted.data(), target, target_data, core::size_of(target_type));
  }
}

}  // namespace caravan::io
