// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "comm/mpi_runtime.hpp"
#include "family/hugging_face_source.hpp"
#include "family/parameters.hpp"
#include "kernels/runtime.hpp"
#include "model/decoder.hpp"

namespace caravan::tests {

/// Kernels from the first use to the end of the process.
inline void start_kernels() { static const kernels::Runtime runtime; }

inline layout::Grid grid_of(int tp, int ep) {
  const auto world = comm::make_world(60);
  layout::Options options;
  options.tp = tp;
  options.ep = ep;
  return {world->size(), world->rank(), options};
}

/// Groups of a grid, and everything that a model needs to stand on them.
struct OnGrid {
  OnGrid(int tp, int ep, at::ScalarType compute = at::kFloat)
      : groups(comm::make_groups(grid_of(tp, ep), 60)), context{grid_of(tp, ep), groups, at::kCPU, compute} {
    start_kernels();
  }
  comm::Groups groups;
  parallel::Context context;
};

/// A model of a Hugging Face folder on a grid; trainables come from the folder where it has them.
struct ModelOnGrid : OnGrid {
  ModelOnGrid(const family::ModelSpec& model_spec, const layout::TensorSource& frozen,
              const layout::TensorSource* trainable, int tp, int ep, at::ScalarType compute = at::kFloat)
      : OnGrid(tp, ep, compute), spec(model_spec), parameters(family::parameter_specs(spec), context) {
    parameters.load_frozen(frozen);
    if (trainable) parameters.load_trainable(*trainable);
    decoder = std::make_unique<model::Decoder>(context, spec, parameters);
  }

  family::ModelSpec spec;
  parallel::Parameters parameters;
  std::unique_ptr<model::Decoder> decoder;
};

/// Whether a model can be cut like this; fixtures of other sizes may not allow every layout.
inline bool fits(const family::ModelSpec& spec, int tp, int ep) {
  const bool cut = spec.heads % tp == 0 && spec.kv_heads % tp == 0 && spec.ffn % tp == 0 && spec.vocabulary % tp == 0;
  return cut && (spec.pesc ? spec.pesc->experts % ep == 0 : ep == 1);
}

/// Layouts of this many ranks with TP and EP up to `most`.
inline std::vector<std::pair<int, int>> layouts(int world, int most) {
  std::vector<std::pair<int, int>> found;
  for (int tp = 1; tp <= most; tp *= 2) {
    for (int ep = 1; ep <= most; ep *= 2) {
      if (world % tp == 0 && world % ep == 0) found.emplace_back(tp, ep);
    }
  }
  return found;
}

}  // namespace caravan::tests
