// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::convert {

/// Section [upcycle]: the mixture of adapters that a dense model gets. Defaults: the published models.
struct UpcycleOptions {
  std::int64_t experts = 8;
  std::int64_t topk = 2;
  std::int64_t adapter_dim = 512;
  double scaling = 0.25;
  std::int64_t seed = 42;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("experts", experts, core::whole(1, 65536), "adapters behind every feed-forward block");
    visit("topk", topk, core::whole(1, 65536), "experts that a token is sent to");
    visit("adapter_dim", adapter_dim, core::whole(1, 1 << 20), "inner dimension of an adapter");
    visit("scaling", scaling, core::above(0, 1e6), "factor of the adapters' output");
    visit("seed", seed, core::whole(0, std::int64_t{1} << 53), "of the initial values");
  }
};

}  // namespace caravan::convert
