// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "family/parameters.hpp"
#include "kernels/runtime.hpp"
#include "model/decoder.hpp"
#include "tests/family/small_models.hpp"
#include "tests/parallel/naive.hpp"

namespace caravan::tests {

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
