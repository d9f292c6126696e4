// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace caravan::layout {

using Shape = std::vector<std::int64_t>;

/// Product of the extents; 1 for a scalar.
std::int64_t element_count(const Shape& shape);

/// "[8, 512, 4096]".
std::string to_string(const Shape& shape);

/// A box inside a global tensor: elements offset[d] … offset[d] + extent[d] − 1 along every dimension d. Slices of
/// ranks, owned pieces of the optimizer, and hyperslabs of a checkpoint are all rectangles.
struct Rectangle {
  Shape offset;
  Shape extent;

  std::int64_t count() const { return element_count(extent); }
  bool operator==(const Rectangle&) const = default;
};

/// The whole tensor.
Rectangle whole(const Shape& shape);

/// What both boxes cover, or nothing. Both have the same number of dimensions.
std::optional<Rectangle> intersect(const Rectangle& a, const Rectangle& b);

/// Copies `part` from a row-major array that holds `source` into a row-major array that holds `target`.
/// `part` lies inside both. element_bytes: size of one element.
void copy_part(const Rectangle& part, const Rectangle& source, const void* source_data, const Rectangle& target,
               void* target_data, std::size_t element_bytes);

}  // namespace caravan::layout
