// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "checkpoint/manifest.hpp"

namespace caravan::run {

/// The folders that upcycle took a step 0 from, as its configuration named them: `upcycled_from` in the state of its
/// manifest. It stands beside `upcycle`, so that the same model from another place is the same store.
struct Step0Origin {
  std::string base;     // model.base; empty where an earlier version made the step 0
  std::string adapter;  // model.adapter; empty: none

  void write_into(nlohmann::json& state) const;
  static Step0Origin of(const checkpoint::Manifest& manifest);
};

/// Whether two names are surely the same folder: spelled alike, or one folder of the disk.
bool is_same_folder(const std::string& a, const std::string& b);

}  // namespace caravan::run
