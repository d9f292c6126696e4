// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::layout {

/// Section [layout].
struct Options {
  std::int64_t tp = 1;
  std::int64_t ep = 1;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("tp", tp, core::whole(1, 1 << 20, "ranks"),
          "tensor parallelism: ranks that divide each weight matrix and each sequence among themselves. The number of "
          "ranks divided by layout.tp is the data parallelism");
    visit("ep", ep, core::whole(1, 1 << 20, "ranks"),
          "expert parallelism: ranks that divide the experts among themselves; it must divide the number of ranks");
  }
};

}  // namespace caravan::layout
