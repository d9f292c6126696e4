// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::comm {

/// Section [watchdog].
struct Options {
  double seconds = 600;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("seconds", seconds, core::above(0, 1e6, "s"),
          "how long a rank may show no sign of progress while others wait for it before they end the job (exit 76)");
  }
};

}  // namespace caravan::comm
