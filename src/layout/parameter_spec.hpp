// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "layout/grid.hpp"
#include "layout/rectangle.hpp"

namespace caravan::layout {

enum class Axis { tp, ep };

/// Along which dimension of the global tensor, and over which axis, a parameter is cut into parts: see slice_of.
struct Split {
  std::size_t dimension = 0;
  Axis axis = Axis::tp;
  bool operator==(const Split&) const = default;
};

/// How a trainable's first value is drawn; every element from its index in the unsharded tensor.
enum class Init { none, zeros, kaiming_uniform };  // kaiming_uniform: a = sqrt 5, so uniform in ±1/sqrt(fan_in)

/// A parameter says once where it lives; everything else (the slice a rank holds, who sums its gradient, who owns
/// which rows of its optimizer state, hyperslabs, bytes) follows from it.
struct ParameterSpec {
  std::string name;  // Hugging Face name; experts of a layer are one tensor [E, …]
  Shape shape;       // of the whole tensor
  core::DType storage = core::DType::f32;
  std::optional<Split> split{};
  bool trainable = false;
  Init init = Init::none;
};

/// The part of the tensor that this rank holds: equal ones; rows of a frozen one over tp, rounded up, the last fewer.
Rectangle slice_of(const ParameterSpec& spec, const Grid& grid);

/// All ranks that hold the same slice, ascending. Not split: the world; split over tp: the DP group; over ep: the
/// EDP group. They sum its gradient and share out its optimizer state.
std::vector<int> replicas_of(const ParameterSpec& spec, const Grid& grid);

/// A run of whole rows of a rank's slice. Files are read and written in rows of dimension 0.
struct Rows {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
  bool operator==(const Rows&) const = default;
};

/// Shares out tensors with `rows[i]` rows of `row_elements[i]` elements over `replicas` owners: the rows of all
/// tensors in order are cut into consecutive runs of about equal element count, never inside a row. Result
/// [replica][tensor]; runs of consecutive replicas join without a gap, so each owner's part of the concatenated
/// tensors is contiguous.
std::vector<std::vector<Rows>> share_rows(const std::vector<std::int64_t>& rows,
                                          const std::vector<std::int64_t>& row_elements, int replicas);

/// The rectangle of the global tensor that rows of a slice cover, counted along dimension 0.
Rectangle rows_of(const Rectangle& slice, const Rows& rows);

/// A slice as owners share it out: rows of its last dimension, counted over all others together, so that the matrices
/// of a layer's experts [E, …] can be cut inside an expert. A vector's rows are its elements.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t width = 0;  // elements of a row
};
Matrix as_matrix(const Rectangle& slice);
/// The rectangles of the global tensor that rows of as_matrix() cover, in order; as few as there can be.
std::vector<Rectangle> rectangles_of(const Rectangle& slice, const Rows& rows);

}  // namespace caravan::layout
