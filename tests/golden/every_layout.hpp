// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {

/// Calls `work` with the model of a Hugging Face folder at every layout of TP and EP up to 2 that the ranks and the
/// model allow. `compute`: the type of its activations.
template <typename Work>
void at_every_layout(const std::filesystem::path& folder, const Work& work, at::ScalarType compute = at::kFloat) {
  const family::ModelSpec spec = family::read_model_spec(folder.string());
  const family::HuggingFaceSource source(folder.string(), spec);
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 2)) {
    if (!fits(spec, tp, ep)) continue;
    CAPTURE(folder.filename().string(), tp, ep);
    work(ModelOnGrid(spec, source, &source, tp, ep, compute));
  }
}

}  // namespace caravan::tests
