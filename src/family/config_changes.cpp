// SPDX-License-Identifier: Apache-2.0
#include "family/config_changes.hpp"

#include <set>

#include "core/error.hpp"
#include "core/json.hpp"
#include "family/config_fields.hpp"

namespace caravan::family {

std::vector<std::string> config_changes(const std::string& folder, const nlohmann::json& recorded) {
  std::vector<std::string> changes;
  if (!recorded.is_object()) return changes;
  const ConfigFields fields = ConfigFields::from_file(folder + "/config.json");
  std::set<std::string> names;
  for (const nlohmann::json& document : {recorded, fields.json()}) {
    for (const auto& [name, value] : document.items()) names.insert(name);
  }
  const auto text_of = [](const nlohmann::json& document, const std::string& name) {
    if (!document.contains(name)) return std::string("nothing");
    return core::json_text(document.at(name));
  };
  for (const std::string& name : names) {
    const bool same = fields.json().contains(name) && recorded.contains(name) && fields.json()[name] == recorded[name];
    if (same) continue;
    changes.push_back(core::concat(name, " = ", text_of(fields.json(), name), ", but the model was made with ",
                                   text_of(recorded, name)));
  }
  return changes;
}

}  // namespace caravan::family
