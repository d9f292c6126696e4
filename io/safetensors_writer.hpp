// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "io/atomic_file.hpp"
#include "layout/rectangle.hpp"

namespace caravan::io {

/// What the header of a safetensors file says of one tensor.
struct SafetensorsTensor {
  std::string name;
  layout::Shape shape;
  core::DType dtype = core::DType::f32;

  std::size_t bytes() const { return static_cast<std::size_t>(layout::element_count(shape)) * core::size_of(dtype); }
};

/// Writes a safetensors file (see io/safetensors.hpp) from its first byte to its last, so that tensors larger than
/// memory can be written. The header comes first, padded so that the data begin at a multiple of 8 bytes; then the
/// tensors' bytes in the order given, which aligns every tensor if their element sizes do not rise. The file appears
/// when commit() is called, whole. Throws as AtomicFile does; a name given twice, or more or fewer bytes than the
/// header says, are exit 70.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<SafetensorsTensor>& tensors,
                    const std::map<std::string, std::string>& metadata = {});

  /// The next bytes of the data, row-major; a tensor may come in any number of portions.
  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  AtomicFile file_;
  std::string path_;
  std::size_t missing_ = 0;  // bytes of data that have not come yet
};

}  // namespace caravan::io
