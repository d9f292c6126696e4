// SPDX-License-Identifier: Apache-2.0
#include "train/progress.hpp"

#include "core/error.hpp"

namespace caravan::train {

nlohmann::json Progress::to_json() const {
  return {{"step", step},
          {"epoch", position.epoch},
          {"index", position.index},
          {"tokens", tokens},
          {"response_tokens", response_tokens},
          {"skipped", skipped}};
}

Progress Progress::from_json(const nlohmann::json& json, const std::string& where) {
  try {
    return {json.at("step"),
            {json.at("epoch"), json.at("index")},
            json.at("tokens"),
            json.at("response_tokens"),
            json.value("skipped", std::int64_t{0})};
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(where, ": the training state is not readable (", error.what(), "); resume from another checkpoint");
  }
}

}  // namespace caravan::train
