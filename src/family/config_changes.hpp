// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace caravan::family {

/// In which fields FOLDER/config.json is no longer the `recorded` document that a model was made with (upcycle keeps it
/// in the manifest of step 0): "rms_norm_eps = 1e-06, but the model was made with 1e-05". None where nothing was
/// recorded (null). Throws (exit 2) when the file is missing or not JSON.
std::vector<std::string> config_changes(const std::string& folder, const nlohmann::json& recorded);

}  // namespace caravan::family
