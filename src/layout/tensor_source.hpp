// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "layout/rectangle.hpp"

namespace caravan::layout {

/// Anything that named tensors can be read from, slice by slice: a checkpoint, a Hugging Face directory, initial
/// values.
class TensorSource {
 public:
  struct Info {
    Shape shape;
    core::DType dtype = core::DType::f32;
  };

  virtual ~TensorSource() = default;

  /// Whether the tensor is there.
  virtual bool contains(const std::string& name) const = 0;

  /// Shape and stored element type. Throws (exit 2), naming the file, when the tensor is missing.
  virtual Info info(const std::string& name) const = 0;

  /// Reads a box of the tensor as row-major elements of `dtype` (floating types are converted) into `target`, which
  /// has room for part.count() elements. Throws (exit 2) naming tensor and file when the bytes are damaged or missing.
  virtual void read(const std::string& name, const Rectangle& part, core::DType dtype, void* target) const = 0;

  /// What messages call it: a path.
  virtual std::string where() const = 0;
};

}  // namespace caravan::layout
