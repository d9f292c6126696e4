// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "family/model_spec.hpp"
#include "parallel/sharded_linear.hpp"

namespace caravan::model {

/// The parts of the linear PREFIX + NAME (".weight", ".bias", ".lora_A.weight", ".lora_B.weight") on this rank.
inline parallel::LinearParts linear_parts(const family::ModelSpec& spec, parallel::Parameters& parameters,
                                          const std::string& prefix, const std::string& name, bool bias) {
  parallel::LinearParts parts;
  parts.base = &parameters.frozen(prefix + name + ".weight");
  if (bias) parts.bias = parameters.frozen_vector(prefix + name + ".bias");
  if (spec.lora && spec.lora->has(name)) {
    parts.a = &parameters.trainable(prefix + name + ".lora_A.weight");
    parts.b = &parameters.trainable(prefix + name + ".lora_B.weight");
  }
  return parts;
}

/// What LoRA's update is multiplied by.
inline double lora_scale(const family::ModelSpec& spec) { return spec.lora ? spec.lora->scale() : 0.0; }

}  // namespace caravan::model
