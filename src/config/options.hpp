// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/complaints.hpp"
#include "core/options.hpp"

namespace caravan::config {

/// Section [run].
struct RunOptions {
  std::string folder;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("folder", folder, core::path(), "folder of the run: configuration, log, metrics and checkpoints");
  }

  void need_folder(core::Complaints& complaints) const {
    complaints.need(folder, "run", "folder", "the folder that holds the run's checkpoints");
  }
};

}  // namespace caravan::config
