// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "family/foreign_names.hpp"
#include "family/peft.hpp"
#include "family/tensor_check.hpp"
#include "io/safetensors.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::family {

/// The tensors of a PEFT folder under our names: LoRA factors, and the mixture's routers and experts where the folder
/// has them. Opening it compares every tensor with the specification and throws (exit 2) one message that names those
/// that are missing, not expected, there twice, of another shape or not of a floating type. Also read are the names of
/// older files, "….lora_A.default.weight".
class PeftSource : public layout::TensorSource {
 public:
  /// spec: adapted(base, adapter).
  PeftSource(const PeftAdapter& adapter, const ModelSpec& spec);

  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  Info info(const std::string& name) const override;
  /// Throws (exit 2) also when a value is NaN or infinite.
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override;
  std::string where() const override { return folder_; }

 private:
  /// One of ours: parts of the mixture's files, or else the LoRA factor of this name.
  struct Tensor {
    layout::Shape shape;
    std::string factor;
    std::vector<ForeignPart> parts;
  };
  const Tensor& tensor(const std::string& name) const;
  void add_factor(const layout::ParameterSpec& parameter, TensorCheck& check);
  void add_mixture(const ModelSpec& spec, const layout::ParameterSpec& parameter, TensorCheck& check);

  std::string folder_;
  std::optional<io::SafetensorsFile> factors_;
  std::optional<io::SafetensorsDirectory> mixture_;
  std::map<std::string, Tensor> tensors_;
};

/// A base and an adapter as one source. What the adapter holds hides the base's.
class AdaptedSource : public layout::TensorSource {
 public:
  /// Keeps a reference to the base.
  AdaptedSource(const layout::TensorSource& base, PeftSource adapter) : base_(base), adapter_(std::move(adapter)) {}

  bool contains(const std::string& name) const override { return adapter_.contains(name) || base_.contains(name); }
  Info info(const std::string& name) const override { return holder(name).info(name); }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    holder(name).read(name, part, dtype, target);
  }
  std::string where() const override { return base_.where() + " with " + adapter_.where(); }

 private:
  const layout::TensorSource& holder(const std::string& name) const {
    if (adapter_.contains(name)) return adapter_;
    return base_;
  }

  const layout::TensorSource& base_;
  PeftSource adapter_;
};

}  // namespace caravan::family
