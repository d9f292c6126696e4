// SPDX-License-Identifier: Apache-2.0
#include "layout/rectangle.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"

namespace caravan::layout {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Rectangle whole(const Shape& shape) { return {Shape(shape.size(), 0), shape}; }

std::optional<Rectangle> intersect(const Rectangle& a, const Rectangle& b) {
  CARAVAN_CHECK(a.offset.size() == b.offset.size());
  Rectangle both = a;
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    const std::int64_t begin = std::max(a.offset[d], b.offset[d]);
    const std::int64_t end = std::min(a.offset[d] + a.extent[d], b.offset[d] + b.extent[d]);
    if (end <= begin) return std::nullopt;
    both.offset[d] = begin;
    both.extent[d] = end - begin;
  }
  return both;
}

void copy_part(const Rectangle& part, const Rectangle& source, const void* source_data, const Rectangle& target,
               void* target_data, std::size_t element_bytes) {
  const std::size_t rank = part.extent.size();
  if (part.count() == 0) return;
  // Trailing dimensions that are whole in all three boxes form one contiguous run.
  std::size_t run_from = rank;
  std::int64_t run = 1;
  while (run_from > 0) {
    const std::size_t d = run_from - 1;
    run *= part.extent[d];
    --run_from;
    if (part.extent[d] != source.extent[d] || part.extent[d] != target.extent[d]) break;
  }
  const auto position = [&](const Rectangle& box, const Shape& index) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < rank; ++d) at = at * box.extent[d] + (part.offset[d] + index[d] - box.offset[d]);
    return static_cast<std::size_t>(at);
  };
  const auto bytes = static_cast<std::size_t>(run) * element_bytes;
  Shape index(rank, 0);
  while (true) {
    std::memcpy(static_cast<char*>(target_data) + position(target, index) * element_bytes,
                static_cast<const char*>(source_data) + position(source, index) * element_bytes, bytes);
    std::size_t d = run_from;
    while (d > 0 && ++index[d - 1] == part.extent[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace caravan::layout
