// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "data/batches.hpp"

namespace caravan::train {

/// How far a run has come: with the seeds of the configuration it decides everything that follows, since every random
/// number is a function of seed, step and sample.
struct Progress {
  std::int64_t step = 0;
  data::Position position;
  std::int64_t tokens = 0;           // used so far
  std::int64_t response_tokens = 0;  // of them
  std::int64_t skipped = 0;          // steps that updated nothing

  nlohmann::json to_json() const;
  /// Throws (exit 2) naming `where` when a field is missing.
  static Progress from_json(const nlohmann::json& json, const std::string& where);
};

}  // namespace caravan::train
