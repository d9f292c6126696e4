// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "train/sharded_adamw.hpp"

namespace caravan::tests {

/// Weights and moments of all ranks as whole tensors. Checks that the owned pieces cover each exactly once. Collective.
inline MemorySource whole_state(train::ShardedAdamW& optimizer, const std::vector<layout::ParameterSpec>& specs,
                                const parallel::Context& context) {
  const std::vector<std::string> prefixes{"", "optimizer/exp_avg/", "optimizer/exp_avg_sq/"};
  std::int64_t total = 0;
  for (const layout::ParameterSpec& spec : specs) {
    if (spec.trainable) total += 3 * layout::element_count(spec.shape);
  }
  // One array for all tensors, so that two messages join them.
  at::Tensor values = at::zeros({total}), owners = at::zeros({total});
  MemorySource state;
  std::map<std::string, at::Tensor> covered;
  std::int64_t begin = 0;
  for (const layout::ParameterSpec& spec : specs) {
    if (!spec.trainable) continue;
    const std::int64_t count = layout::element_count(spec.shape);
    for (const std::string& prefix : prefixes) {
      state.tensors[prefix + spec.name] = values.narrow(0, begin, count).view(spec.shape);
      covered[prefix + spec.name] = owners.narrow(0, begin, count).view(spec.shape);
      begin += count;
    }
  }
  for (const auto& piece : optimizer.owned_pieces()) {
    CHECK(piece.shape == state.tensors.at(piece.name).sizes().vec());
    part_of(state.tensors.at(piece.name), piece.part).copy_(at::from_blob(piece.data, piece.part.extent, at::kFloat));
    part_of(covered.at(piece.name), piece.part).add_(1);
  }
  parallel::all_reduce(*context.groups.world, "join pieces", values, comm::Reduce::sum);
  parallel::all_reduce(*context.groups.world, "count owners", owners, comm::Reduce::sum);
  for (const auto& [name, count] : covered) {
    CAPTURE(name);
    CHECK(count.eq(1).all().item<bool>());
  }
  return state;
}

}  // namespace caravan::tests
