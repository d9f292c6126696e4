// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "evaluate/compare.hpp"
#include "io/safetensors.hpp"

namespace caravan::evaluate {

/// Logits that another program has computed: input_ids [B, S] (int64 or int32), logits [B, S, V] (a floating type) and,
/// if there, attention_mask [B, S] (int64, int32 or uint8), whose ones are one run in every row: padding on either
/// side. Other tensors are left aside.
class ReferenceFile {
 public:
  /// Throws (exit 2), with file, tensor and place, when tensors are missing, of other types or shapes, or ids are no
  /// tokens of a vocabulary of this size.
  ReferenceFile(const std::string& path, std::int64_t vocabulary);

  /// Row b without its padding is text b.
  const TokenTexts& texts() const { return texts_; }
  /// [rows, V] in the file's type, for tokens first, first + 1, … of a text.
  at::Tensor logits(std::size_t text, std::int64_t first, std::int64_t rows) const;
  /// Whether the logits are stored in 16 bits, so that they were probably computed in 16 bits.
  bool is_rounded() const { return core::size_of(dtype_) == 2; }

 private:
  io::SafetensorsFile file_;
  core::DType dtype_ = core::DType::f32;
  std::int64_t length_ = 0, vocabulary_ = 0;  // S, V
  TokenTexts texts_;
  std::vector<std::int64_t> begin_;  // position of each text's first token in its row
};

}  // namespace caravan::evaluate
