// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "family/model_spec.hpp"
#include "io/safetensors_writer.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::convert {

/// A tensor of a Hugging Face folder and what it is made from.
struct ExportTensor {
  io::SafetensorsTensor target;  // official name, shape without the expert dimension, element type in the folder
  std::string source;            // our tensor
  layout::Rectangle place;       // the box of it that the target holds
  std::string lora_a, lora_b;    // names of the low-rank factors that are merged into it; empty: none
};

/// Every tensor of the folder, in the order of a forward pass. LoRA factors have none of their own.
std::vector<ExportTensor> export_tensors(const family::ModelSpec& spec, core::DType dtype);

/// Makes a tensor's values and hands them to `write` as row-major portions in the target's element type, in order. A
/// merged one is W + scale · (B · A), summed over the rank in order in fp32 and rounded once, so its bits do not depend
/// on who makes it. Memory: a few blocks of 32 MiB, and the factor A.
/// Throws (exit 2), with source and tensor, when a value is not finite or too large for the element type.
void make_tensor(const layout::TensorSource& source, const ExportTensor& tensor, double scale,
                 const std::function<void(const void* data, std::size_t bytes)>& write);

}  // namespace caravan::convert
