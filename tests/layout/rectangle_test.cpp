// SPDX-License-Identifier: Apache-2.0
#include "layout/rectangle.hpp"

#include <numeric>
#include <random>

#include "tests/support/catch.hpp"

using namespace caravan::layout;

namespace {

std::int64_t draw(std::mt19937& random, std::int64_t least, std::int64_t most) {
  return std::uniform_int_distribution<std::int64_t>(least, most)(random);
}

Rectangle box_inside(std::mt19937& random, const Rectangle& outer) {
  Rectangle box = outer;
  for (std::size_t d = 0; d < outer.extent.size(); ++d) {
    // Whole dimensions are what the copy treats specially, so they are frequent.
    if (draw(random, 0, 1) == 0) continue;
    box.extent[d] = draw(random, 1, outer.extent[d]);
    box.offset[d] = outer.offset[d] + draw(random, 0, outer.extent[d] - box.extent[d]);
  }
  return box;
}

// Calls each(index) for every element of the box, by global index.
template <typename Each>
void for_each_index(const Rectangle& box, Each&& each) {
  for (std::int64_t i = 0; i < box.count(); ++i) {
    Shape index(box.extent.size());
    std::int64_t rest = i;
    for (std::size_t d = box.extent.size(); d-- > 0; rest /= box.extent[d])
      index[d] = box.offset[d] + rest % box.extent[d];
    each(index);
  }
}

std::size_t position(const Rectangle& box, const Shape& index) {
  std::int64_t at = 0;
  for (std::size_t d = 0; d < index.size(); ++d) at = at * box.extent[d] + index[d] - box.offset[d];
  return static_cast<std::size_t>(at);
}

}  // namespace

TEST_CASE("copying a part equals element by element loops") {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    Rectangle tensor;
    for (std::int64_t d = draw(random, 1, 4); d > 0; --d) {
      tensor.offset.push_back(0);
      tensor.extent.push_back(draw(random, 1, 6));
    }
    const Rectangle source = box_inside(random, tensor);
    const Rectangle part = box_inside(random, source);
    Rectangle target = part;  // a box around the part
    for (std::size_t d = 0; d < part.extent.size(); ++d) {
      const std::int64_t before = draw(random, 0, 2);
      target.offset[d] -= before;
      target.extent[d] += before + draw(random, 0, 2);
    }
    std::vector<std::int32_t> from(static_cast<std::size_t>(source.count()));
    std::iota(from.begin(), from.end(), 1);
    std::vector<std::int32_t> to(static_cast<std::size_t>(target.count()), -1), expected = to;
    for_each_index(part,
                   [&](const Shape& index) { expected[position(target, index)] = from[position(source, index)]; });
    copy_part(part, source, from.data(), target, to.data(), sizeof(std::int32_t));
    REQUIRE(to == expected);
  }
}

TEST_CASE("intersections hold the common elements") {
  std::mt19937 random(11);
  const Rectangle all = whole({5, 4, 6});
  for (int round = 0; round < 300; ++round) {
    const Rectangle a = box_inside(random, all), b = box_inside(random, all);
    std::vector<int> hits(static_cast<std::size_t>(all.count()));
    for_each_index(a, [&](const Shape& index) { ++hits[position(all, index)]; });
    for_each_index(b, [&](const Shape& index) { ++hits[position(all, index)]; });
    std::vector<int> common(hits.size());
    const auto both = intersect(a, b);
    if (both) for_each_index(*both, [&](const Shape& index) { ++common[position(all, index)]; });
    for (std::size_t i = 0; i < hits.size(); ++i) REQUIRE(common[i] == (hits[i] == 2 ? 1 : 0));
  }
}

TEST_CASE("empty parts and scalars are copied without harm") {
  const float one = 1;
  float other = 0;
  copy_part({{}, {}}, {{}, {}}, &one, {{}, {}}, &other, sizeof(float));
  CHECK(other == 1);
  copy_part({{0, 0}, {0, 3}}, {{0, 0}, {2, 3}}, nullptr, {{0, 0}, {2, 3}}, nullptr, sizeof(float));
  CHECK(element_count({}) == 1);
  CHECK(to_string(Shape{8, 512}) == "[8, 512]");
}
