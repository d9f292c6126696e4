// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <set>

#include "core/error.hpp"
#include "core/random.hpp"
#include "family/parameters.hpp"
#include "layout/tensor_source.hpp"
#include "tests/family/small_models.hpp"

namespace caravan::tests {

/// Values for every tensor from its name and the element's index: uniform with the deviation of a trained model; norms
/// near 1. Nothing is zero, so that every parameter has a gradient from the first step on.
class RandomTensors : public layout::TensorSource {
 public:
  explicit RandomTensors(const family::ModelSpec& spec) : specs_(family::parameter_specs(spec)) {}

  bool contains(const std::string& name) const override {
    for (const layout::ParameterSpec& spec : specs_) {
      if (spec.name == name) return true;
    }
    return false;
  }
  Info info(const std::string& name) const override { return {spec_of(name).shape, core::DType::f32}; }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    const layout::ParameterSpec& spec = spec_of(name);
    std::vector<float> whole(static_cast<std::size_t>(layout::element_count(spec.shape)));
    const std::uint64_t key = core::hash_name(name.data(), name.size());
    const bool norm = spec.shape.size() == 1;
    const double width = norm ? 0.2 : std::sqrt(3.0 / static_cast<double>(spec.shape.back()));
    for (std::size_t i = 0; i < whole.size(); ++i) {
      whole[i] = static_cast<float>((norm ? 1.0 : 0.0) + width * (2.0 * core::uniform(key, i) - 1.0));
    }
    std::vector<float> box(static_cast<std::size_t>(part.count()));
    layout::copy_part(part, layout::whole(spec.shape), whole.data(), part, box.data(), sizeof(float));
    core::convert(box.data(), core::DType::f32, target, dtype, box.size());
  }
  std::string where() const override { return "random tensors"; }

 private:
  const layout::ParameterSpec& spec_of(const std::string& name) const {
    for (const layout::ParameterSpec& spec : specs_) {
      if (spec.name == name) return spec;
    }
    core::internal_error("no tensor ", name);
  }
  std::vector<layout::ParameterSpec> specs_;
};

/// The same with routers that know two experts only: row 1 is the negative of row 0 and all others are zero, so that
/// with topk = 1 every token goes to expert 0 or 1.
class OneSidedTensors final : public RandomTensors {
 public:
  using RandomTensors::RandomTensors;
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    if (name.find("router") == std::string::npos) return RandomTensors::read(name, part, dtype, target);
    const layout::Shape shape = info(name).shape;  // [E, H]
    const auto hidden = static_cast<std::size_t>(shape[1]);
    std::vector<float> values(static_cast<std::size_t>(layout::element_count(shape)));
    RandomTensors::read(name, layout::whole(shape), core::DType::f32, values.data());
    for (std::size_t i = hidden; i < values.size(); ++i) values[i] = i < 2 * hidden ? -values[i - hidden] : 0.0F;
    std::vector<float> box(static_cast<std::size_t>(part.count()));
    layout::copy_part(part, layout::whole(shape), values.data(), part, box.data(), sizeof(float));
    core::convert(box.data(), core::DType::f32, target, dtype, box.size());
  }
};

/// The same with the second matrices of LoRA and of the adapters at a tenth of their size, as after some training.
class MildTensors final : public RandomTensors {
 public:
  using RandomTensors::RandomTensors;
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    std::vector<float> values(static_cast<std::size_t>(part.count()));
    RandomTensors::read(name, part, core::DType::f32, values.data());
    if (name.find("lora_B") != std::string::npos || name.find("adapter_up") != std::string::npos) {
      for (float& value : values) value *= 0.1F;
    }
    core::convert(values.data(), core::DType::f32, target, dtype, values.size());
  }
};

/// The same with frozen tensors as a file in bf16 would have them.
class RoundedTensors final : public RandomTensors {
 public:
  explicit RoundedTensors(const family::ModelSpec& spec) : RandomTensors(spec) {
    for (const layout::ParameterSpec& parameter : family::parameter_specs(spec)) {
      if (!parameter.trainable) frozen_.insert(parameter.name);
    }
  }
  Info info(const std::string& name) const override {
    return {RandomTensors::info(name).shape, frozen_.contains(name) ? core::DType::bf16 : core::DType::f32};
  }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    if (!frozen_.contains(name)) return RandomTensors::read(name, part, dtype, target);
    std::vector<std::uint16_t> stored(static_cast<std::size_t>(part.count()));
    RandomTensors::read(name, part, core::DType::bf16, stored.data());
    core::convert(stored.data(), core::DType::bf16, target, dtype, stored.size());
  }

 private:
  std::set<std::string> frozen_;
};

}  // namespace caravan::tests
