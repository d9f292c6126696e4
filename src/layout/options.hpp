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
          "tensor parallel: ranks that share each matrix and each sequence");
    visit("ep", ep, core::whole(1, 1 << 20, "ranks"),
          "expert parallel: ranks that share out the experts; the ranks that tp leaves over are data parallel");
  }
};

}  // namespace caravan::layout
