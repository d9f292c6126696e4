// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "data/batches.hpp"
#include "io/safetensors.hpp"
#include "parallel/collectives.hpp"

namespace caravan::tests {

/// A tensor of a safetensors file in its own element type.
inline at::Tensor read_tensor(const io::SafetensorsFile& file, const std::string& name) {
  const layout::TensorSource::Info info = file.info(name);
  at::Tensor tensor = at::empty(info.shape, parallel::scalar_type_of(info.dtype));
  std::memcpy(tensor.data_ptr(), file.data(name), tensor.nbytes());
  return tensor;
}

/// Largest absolute difference.
inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return a.numel() == 0 ? 0.0 : a.to(at::kDouble).sub(b.to(at::kDouble)).abs().max().item<double>();
}

/// Rows of right-padded tensors [B, S] as one batch without padding: a document per row, cut where the mask ends.
/// first_ordinal: ordinal of row 0. Targets come from labels (shifted by one) when they are given.
inline data::TokenBatch batch_of_rows(const at::Tensor& ids, const at::Tensor& mask, const at::Tensor& labels,
                                      std::int64_t first_row, std::int64_t rows, std::uint64_t first_ordinal = 0) {
  data::TokenBatch batch;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = first_row + r;
    const std::int64_t length = mask.defined() ? mask[row].sum().item<std::int64_t>() : ids.size(1);
    for (std::int64_t t = 0; t < length; ++t) {
      batch.tokens.push_back(ids[row][t].item<std::int32_t>());
      batch.targets.push_back(labels.defined() && t + 1 < length ? labels[row][t + 1].item<std::int32_t>() : -100);
      batch.positions.push_back(static_cast<std::int32_t>(t));
      batch.sequence.push_back(static_cast<std::int32_t>(r));
      batch.identity.push_back(
          core::token_identity(first_ordinal + static_cast<std::uint64_t>(row), static_cast<std::uint32_t>(t)));
    }
    batch.document_starts.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  return batch;
}

}  // namespace caravan::tests
