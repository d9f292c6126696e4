// SPDX-License-Identifier: Apache-2.0
#include "layout/parameter_spec.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"

namespace caravan::layout {

Rectangle slice_of(const ParameterSpec& spec, const Grid& grid) {
  Rectangle slice = whole(spec.shape);
  if (spec.split) {
    const std::size_t d = spec.split->dimension;
    const int parts = spec.split->axis == Axis::tp ? grid.tp() : grid.ep();
    const int part = spec.split->axis == Axis::tp ? grid.tp_rank() : grid.ep_rank();
    const bool may_end_short = !spec.trainable && d == 0 && spec.split->axis == Axis::tp;
    CARAVAN_CHECK(d < spec.shape.size() && (may_end_short || spec.shape[d] % parts == 0), spec.name);
    const std::int64_t most = (spec.shape[d] + parts - 1) / parts;
    slice.offset[d] = std::min(most * part, spec.shape[d]);
    slice.extent[d] = std::min(most, spec.shape[d] - slice.offset[d]);
  }
  return slice;
}

std::vector<int> replicas_of(const ParameterSpec& spec, const Grid& grid) {
  if (spec.split) return spec.split->axis == Axis::tp ? grid.dp_group() : grid.edp_group();
  std::vector<int> world(static_cast<std::size_t>(grid.world()));
  std::iota(world.begin(), world.end(), 0);
  return world;
}

std::vector<std::vector<Rows>> share_rows(const std::vector<std::int64_t>& rows,
                                          const std::vector<std::int64_t>& row_elements, int replicas) {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) total += rows[i] * row_elements[i];
  std::vector<std::vector<Rows>> shares(static_cast<std::size_t>(replicas), std::vector<Rows>(rows.size()));
  std::int64_t before = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::int64_t begin = 0;
    for (std::size_t replica = 0; replica < shares.size(); ++replica) {
      // A row belongs to the replica in whose equal share of all elements its first element falls.
      const std::int64_t limit = (total * (static_cast<std::int64_t>(replica) + 1) + replicas - 1) / replicas;
      const std::int64_t width = std::max<std::int64_t>(row_elements[i], 1);
      std::int64_t end = (limit - before + width - 1) / width;
      end = std::min(rows[i], std::max(begin, end));
      if (replica + 1 == shares.size()) end = rows[i];
      shares[replica][i] = {begin, end};
      begin = end;
    }
    before += rows[i] * row_elements[i];
  }
  return shares;
}

Rectangle rows_of(const Rectangle& slice, const Rows& rows) {
  Rectangle part = slice;
  part.offset.at(0) += rows.begin;
  part.extent.at(0) = rows.count();
  return part;
}

namespace {

// Rows [begin, end) of the dimensions from `dimension` to the last but one of a box whose dimensions before have one
// index.
void cover(const Rectangle& box, std::size_t dimension, Rows rows, std::vector<Rectangle>& found) {
  if (rows.count() <= 0) return;
  std::int64_t inner = 1;
  for (std::size_t d = dimension + 1; d + 1 < box.extent.size(); ++d) inner *= box.extent[d];
  const auto take = [&](std::int64_t begin, std::int64_t end) {
    Rectangle part = box;
    part.offset[dimension] += begin;
    part.extent[dimension] = end - begin;
    return part;
  };
  std::int64_t whole_begin = (rows.begin + inner - 1) / inner;
  const std::int64_t whole_end = rows.end / inner;
  if (rows.begin % inner != 0) {
    const std::int64_t index = rows.begin / inner;
    cover(take(index, index + 1), dimension + 1, {rows.begin % inner, std::min(inner, rows.end - index * inner)},
          found);
  }
  if (whole_begin < whole_end) found.push_back(take(whole_begin, whole_end));
  whole_begin = std::max(whole_begin, whole_end);
  if (whole_begin * inner < rows.end) {
    cover(take(whole_begin, whole_begin + 1), dimension + 1, {0, rows.end - whole_begin * inner}, found);
  }
}

}  // namespace

Matrix as_matrix(const Rectangle& slice) {
  if (slice.extent.size() == 1) return {slice.extent[0], 1};
  Matrix matrix{1, slice.extent.back()};
  for (std::size_t d = 0; d + 1 < slice.extent.size(); ++d) matrix.rows *= slice.extent[d];
  return matrix;
}

std::vector<Rectangle> rectangles_of(const Rectangle& slice, const Rows& rows) {
  std::vector<Rectangle> found;
  cover(slice, 0, rows, found);
  return found;
}

}  // namespace caravan::layout
