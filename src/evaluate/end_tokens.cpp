// SPDX-License-Identifier: Apache-2.0
#include "evaluate/end_tokens.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/json.hpp"
#include "io/atomic_file.hpp"

namespace caravan::evaluate {

std::vector<std::int32_t> end_tokens(const std::filesystem::path& model_folder, std::int32_t trained) {
  std::vector<std::int32_t> ends;
  const auto add = [&](std::int64_t id) {
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) return;
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(static_cast<std::int32_t>(id));
  };
  add(trained);
  for (const char* name : {"config.json", "generation_config.json"}) {
    const std::filesystem::path file = model_folder / name;
    if (!std::filesystem::is_regular_file(file)) continue;
    const nlohmann::json object = core::parse_json_if_valid(io::read_file(file));
    if (!object.is_object()) continue;
    const nlohmann::json value = object.value("eos_token_id", nlohmann::json());
    for (const nlohmann::json& id : value.is_array() ? value : nlohmann::json::array({value})) {
      if (id.is_number_integer()) add(id.get<std::int64_t>());
    }
  }
  return ends;
}

}  // namespace caravan::evaluate
