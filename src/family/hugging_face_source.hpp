// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "family/foreign_names.hpp"
#include "io/safetensors.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::family {

/// A Hugging Face model folder seen through the name table: our names, a layer's experts as one tensor. Opening it
/// compares every tensor with the specification and throws (exit 2) one message that names those that are missing,
/// not expected, of another shape or not of a floating type. Left aside are "*.rotary_emb.inv_freq", which old files
/// carry and config.json already says, and the head of a model with tied embeddings, which must equal the embedding and
/// is read for that alone. LoRA factors are never in it.
class HuggingFaceSource : public layout::TensorSource {
 public:
  HuggingFaceSource(const std::string& folder, const ModelSpec& spec);

  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  Info info(const std::string& name) const override;
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override;
  std::string where() const override { return directory_.where(); }

 private:
  struct Tensor {
    layout::Shape shape;
    std::vector<ForeignPart> parts;
  };
  const Tensor& tensor(const std::string& name) const;

  io::SafetensorsDirectory directory_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace caravan::family
