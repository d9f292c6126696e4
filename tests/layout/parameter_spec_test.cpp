// SPDX-License-Identifier: Apache-2.0
#include "layout/parameter_spec.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "tests/support/catch.hpp"

using namespace caravan::layout;

namespace {

ParameterSpec parameter(Shape shape, std::optional<Split> split) {
  return {.name = "p", .shape = std::move(shape), .split = split};
}

// How often each element of the tensor lies in a box.
void count_box(const Shape& shape, const Rectangle& box, std::vector<int>& counts) {
  for (std::int64_t i = 0; i < element_count(shape); ++i) {
    std::int64_t rest = i;
    bool inside = true;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
      const std::int64_t at = rest % shape[d];
      inside = inside && at >= box.offset[d] && at < box.offset[d] + box.extent[d];
    }
    if (inside) ++counts[static_cast<std::size_t>(i)];
  }
}

}  // namespace

TEST_CASE("slices cover a tensor once per replica: the ranks with the same slice") {
  const std::vector<ParameterSpec> parameters{parameter({12}, {}), parameter({12, 5}, Split{0, Axis::tp}),
                                              parameter({5, 12}, Split{1, Axis::tp}),
                                              parameter({12, 2, 3}, Split{0, Axis::ep})};
  for (const auto& [world, tp, ep] :
       std::vector<std::array<int, 3>>{{1, 1, 1}, {4, 2, 4}, {4, 4, 2}, {6, 2, 3}, {12, 3, 4}}) {
    for (const ParameterSpec& spec : parameters) {
      std::vector<int> counts(static_cast<std::size_t>(element_count(spec.shape)));
      std::vector<Rectangle> slices;
      for (int rank = 0; rank < world; ++rank) {
        slices.push_back(slice_of(spec, Grid(world, rank, {tp, ep})));
        count_box(spec.shape, slices.back(), counts);
      }
      const auto replicas = replicas_of(spec, Grid(world, 0, {tp, ep})).size();
      CHECK(std::all_of(counts.begin(), counts.end(), [&](int c) { return c == static_cast<int>(replicas); }));
      for (int rank = 0; rank < world; ++rank) {
        std::vector<int> same;
        for (int other = 0; other < world; ++other) {
          if (slices[static_cast<std::size_t>(other)] == slices[static_cast<std::size_t>(rank)]) same.push_back(other);
        }
        CHECK(replicas_of(spec, Grid(world, rank, {tp, ep})) == same);
      }
    }
  }
}

TEST_CASE("rows of a frozen tensor that TP does not divide leave the last parts short") {
  const ParameterSpec spec{.name = "frozen", .shape = {13, 2}, .split = Split{0, Axis::tp}};
  for (const auto& [tp, wanted] : std::vector<std::pair<int, std::vector<std::int64_t>>>{
           {1, {13}}, {2, {7, 6}}, {4, {4, 4, 4, 1}}, {6, {3, 3, 3, 3, 1, 0}}, {8, {2, 2, 2, 2, 2, 2, 1, 0}}}) {
    std::int64_t begin = 0;
    for (int rank = 0; rank < tp; ++rank) {
      const Rectangle slice = slice_of(spec, Grid(tp, rank, {tp, 1}));
      CHECK(slice.offset == Shape{begin, 0});
      CHECK(slice.extent == Shape{wanted[static_cast<std::size_t>(rank)], 2});
      begin += slice.extent[0];
    }
    CHECK(begin == 13);
  }
  ParameterSpec trained = spec;
  trained.trainable = true;
  CHECK_THROWS(slice_of(trained, Grid(2, 0, {2, 1})));
}

TEST_CASE("shared rows cover every tensor in order, each within a row of an equal share") {
  struct Case {
    std::vector<std::int64_t> rows, row_elements;
  };
  const std::vector<Case> cases{{{10}, {3}},
                                {{1, 1, 1}, {5, 5, 5}},
                                {{7, 64, 3, 100}, {16, 2, 300, 1}},
                                {{4, 8, 4}, {1, 1, 1}},
                                {{2, 0, 3}, {4, 9, 4}},
                                {{}, {}}};
  for (const Case& item : cases) {
    const std::int64_t total =
        std::inner_product(item.rows.begin(), item.rows.end(), item.row_elements.begin(), std::int64_t{0});
    const std::int64_t widest =
        item.row_elements.empty() ? 0 : *std::max_element(item.row_elements.begin(), item.row_elements.end());
    for (const int replicas : {1, 2, 3, 7, 40}) {
      const auto shares = share_rows(item.rows, item.row_elements, replicas);
      REQUIRE(shares.size() == static_cast<std::size_t>(replicas));
      for (std::size_t tensor = 0; tensor < item.rows.size(); ++tensor) {
        std::int64_t next = 0;
        for (const auto& share : shares) {
          CHECK(share[tensor].begin == next);
          CHECK(share[tensor].end >= share[tensor].begin);
          next = share[tensor].end;
        }
        CHECK(next == item.rows[tensor]);
      }
      std::size_t last_tensor = 0;  // a later replica starts where the earlier one stopped, never before
      for (const auto& share : shares) {
        std::int64_t elements = 0;
        for (std::size_t tensor = 0; tensor < item.rows.size(); ++tensor) {
          elements += share[tensor].count() * item.row_elements[tensor];
          if (share[tensor].count() > 0) {
            CHECK(tensor >= last_tensor);
            last_tensor = tensor;
          }
        }
        CHECK(std::abs(elements * replicas - total) <= (widest + 1) * replicas);
      }
    }
  }
}

TEST_CASE("rows of a slice are a box of the global tensor") {
  const Rectangle slice{{6, 4, 0}, {3, 2, 5}};
  CHECK(rows_of(slice, {1, 3}) == Rectangle{{7, 4, 0}, {2, 2, 5}});
  CHECK(rows_of(slice, {0, 0}).count() == 0);
}

TEST_CASE("rows over all leading dimensions are few boxes, in order, each element once") {
  const std::vector<Rectangle> slices{
      {{3}, {7}}, {{6, 4}, {3, 5}}, {{6, 4, 0}, {3, 4, 5}}, {{1, 0, 2}, {1, 6, 2}}, {{0, 1, 0, 0}, {2, 3, 4, 2}}};
  for (const Rectangle& slice : slices) {
    const Matrix matrix = as_matrix(slice);
    CHECK(matrix.rows * matrix.width == slice.count());
    CHECK(matrix.width == (slice.extent.size() == 1 ? 1 : slice.extent.back()));
    const std::size_t dimensions = slice.extent.size();
    for (std::int64_t begin = 0; begin <= matrix.rows; ++begin) {
      for (std::int64_t end = begin; end <= matrix.rows; ++end) {
        const std::vector<Rectangle> boxes = rectangles_of(slice, {begin, end});
        // At most a part of the first and of the last index of every dimension but two, and the whole between them.
        CHECK(boxes.size() <= (dimensions < 3 ? 1 : 2 * (dimensions - 2) + 1));
        std::int64_t next = begin * matrix.width;  // element of the slice, row-major
        for (const Rectangle& box : boxes) {
          REQUIRE(intersect(box, slice) == box);
          std::int64_t first = 0;
          for (std::size_t d = 0; d < dimensions; ++d) {
            first = first * slice.extent[d] + box.offset[d] - slice.offset[d];
          }
          CHECK(first == next);
          // Contiguous in the slice: once a dimension has several indices, those behind it are whole.
          bool several = false;
          for (std::size_t d = 0; d < dimensions; ++d) {
            if (several) CHECK(box.extent[d] == slice.extent[d]);
            several = several || box.extent[d] > 1;
          }
          next += box.count();
        }
        CHECK(next == end * matrix.width);
      }
    }
  }
}
