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
          "a rank that others wait for and that shows no sign of progress for this long ends the job (exit 76); a rank "
          "that is slow but still computes, reads or writes does not");
  }
};

}  // namespace caravan::comm
