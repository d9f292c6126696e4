// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "family/parameters.hpp"
#include "kernels/runtime.hpp"
#include "model/decoder.hpp"
#include "tests/parallel/naive.hpp"

namespace caravan::tests {

/// A crafted model that every layout of up to four ranks divides.
inline family::ModelSpec small_spec() {
  family::ModelSpec spec;
  spec.model_type = "camelidae";
  spec.hidden = 16;
  spec.ffn = 24;
  spec.layers = 2;
  spec.heads = 8;
  spec.kv_heads = 4;
  spec.head_dim = 4;
  spec.vocabulary = 40;
  spec.norm_eps = 1e-5;
  spec.max_positions = 64;
  spec.pesc = family::Pesc{8, 2, 6, 0.5};
  spec.lora = family::Lora{3, 6, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}};
  return spec;
}

/// The extremes among the layouts, and one that mixes all axes: for what needs no look at each.
inline std::vector<std::pair<int, int>> few_layouts(int world) {
  if (world == 1) return {{1, 1}};
  return {{1, world}, {world, 1}, {2, world}};
}

/// The model with noise for all parameters, also for those that begin at zero.
struct RandomModel {
  RandomModel(const parallel::Context& context, const family::ModelSpec& spec)
      : parameters(family::parameter_specs(spec), context) {
    const MemorySource source = random_parameters(family::parameter_specs(spec), 1.0);
    parameters.load_frozen(source);
    parameters.load_trainable(source);
    decoder = std::make_unique<model::Decoder>(context, spec, parameters);
  }
  parallel::Parameters parameters;
  std::unique_ptr<model::Decoder> decoder;
};

}  // namespace caravan::tests
