// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::config {

/// Section [run].
struct RunOptions {
  std::string folder;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("folder", folder, core::path(), "where the run keeps its configuration, log, metrics and checkpoints");
  }
};

}  // namespace caravan::config
