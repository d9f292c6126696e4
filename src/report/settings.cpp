// SPDX-License-Identifier: Apache-2.0
#include "report/settings.hpp"

#include "core/json.hpp"
#include "core/text.hpp"

namespace caravan::report {
namespace {

using nlohmann::json;

std::string text_of(const json& value) {
  if (value.is_string()) return value.get<std::string>().empty() ? "nothing" : value.get<std::string>();
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const json& item : value) items.push_back(text_of(item));
    return items.empty() ? "nothing" : core::join(items, ", ");
  }
  return core::json_text(value);
}

}  // namespace

void write_settings(const std::string& whose, const json& settings, const json& defaults, Page& page) {
  Rows rows;
  for (const auto& [section, keys] : settings.items()) {
    if (!keys.is_object()) continue;
    for (const auto& [key, value] : keys.items()) {
      const json standard = defaults.value(section, json::object()).value(key, json());
      if (value == standard) continue;
      const std::string note = standard.is_null() ? "unknown to this program" : "default " + text_of(standard);
      rows.push_back({section + "." + key, text_of(value), "(" + note + ")"});
    }
  }
  page.heading(whose + (rows.empty() ? ": all defaults" : " other than the defaults"));
  for (const auto& row : rows) page.line(row[0], "= " + row[1] + "  " + row[2]);
}

}  // namespace caravan::report
