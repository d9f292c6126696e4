// SPDX-License-Identifier: Apache-2.0
// Small checkpoints for tests: a tensor's elements are a function of name and index, so any part can be predicted.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/reader.hpp"
#include "checkpoint/save.hpp"

namespace caravan::test {

/// Element `index` (row-major) of the tensor, exactly representable in bf16 and f32.
inline float element(const std::string& name, std::int64_t index) {
  return static_cast<float>((index * 7 + static_cast<std::int64_t>(name.size()) * 13) % 251) - 100.0F;
}

/// The part's elements, row-major.
inline std::vector<float> elements(const std::string& name, const layout::Shape& shape, const layout::Rectangle& part) {
  std::vector<float> all(static_cast<std::size_t>(layout::element_count(shape)));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = element(name, static_cast<std::int64_t>(i));
  std::vector<float> result(static_cast<std::size_t>(part.count()));
  layout::copy_part(part, layout::whole(shape), all.data(), part, result.data(), sizeof(float));
  return result;
}

/// A piece that makes its elements when they are asked for.
inline checkpoint::Piece piece_of(const std::string& name, const layout::Shape& shape, core::DType dtype,
                                  const layout::Rectangle& part) {
  const auto fill = [=](std::int64_t begin, std::int64_t end, void* out) {
    layout::Rectangle rows = part;
    rows.offset[0] += begin;
    rows.extent[0] = end - begin;
    const std::vector<float> values = elements(name, shape, rows);
    core::convert(values.data(), core::DType::f32, out, dtype, values.size());
  };
  return {name, shape, dtype, part, fill};
}

/// Cuts a shape into `parts` equal parts along a dimension.
inline layout::Rectangle slice(const layout::Shape& shape, std::size_t dimension, std::int64_t parts,
                               std::int64_t index) {
  layout::Rectangle part = layout::whole(shape);
  part.extent[dimension] = shape[dimension] / parts;
  part.offset[dimension] = part.extent[dimension] * index;
  return part;
}

/// Flips one bit of a file.
inline void flip_bit(const std::filesystem::path& path, std::int64_t byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(byte);
  const char flipped = static_cast<char>(file.get() ^ 1);
  file.seekp(byte);
  file.put(flipped);
}

/// Where a run of bytes begins in a file; −1: nowhere.
inline std::int64_t find_bytes(const std::filesystem::path& path, const void* bytes, std::size_t count) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const std::size_t at = text.find(std::string(static_cast<const char*>(bytes), count));
  return at == std::string::npos ? -1 : static_cast<std::int64_t>(at);
}

}  // namespace caravan::test
