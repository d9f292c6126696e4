// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/ini.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"

namespace caravan::config {
namespace {

std::string as_line(const Field& field) {
  std::string value;
  if (field.is_list()) {
    std::vector<std::string> items = *std::get<std::vector<std::string>*>(field.target);
    for (std::string& item : items) item = quote_item(item, true);
    value = core::join(items, ", ");
  } else {
    value = quote_item(format(field), false);
  }
  return field.key + " =" + (value.empty() ? "" : " ") + value + "\n";
}

void append_section(std::string& text, const Field& field, std::string& section) {
  if (field.section == section) return;
  section = field.section;
  text += (text.empty() ? "[" : "\n[") + section + "]\n";
}

/// The words in indented lines of at most 100 characters.
std::string wrapped(const std::string& words) {
  constexpr std::size_t most = 94;
  const std::string indent(6, ' ');
  std::string lines;
  for (std::size_t at = 0; at < words.size();) {
    std::size_t end = words.size();
    if (end - at > most) {
      end = words.rfind(' ', at + most);
      if (end == std::string::npos || end <= at) end = std::min(words.find(' ', at), words.size());
    }
    lines += indent + words.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return lines;
}

struct AsJson {
  template <typename Value>
  nlohmann::ordered_json operator()(const Value* value) const {
    return *value;
  }
  nlohmann::ordered_json operator()(const core::Mebibytes* value) const { return value->count; }
  nlohmann::ordered_json operator()(const core::Choice& value) const { return std::string(value.name()); }
};

}  // namespace

std::vector<Field> fields_of(Config& config) {
  std::vector<Field> fields;
  config.sections([&fields](const char* name, auto& options) {
    FieldList list(name);
    options.describe(list);
    for (Field& field : list.take()) fields.push_back(std::move(field));
  });
  return fields;
}

std::vector<Renamed> renamed_settings() {
  Config config;
  std::vector<Renamed> renamed;
  for (const Field& field : fields_of(config)) {
    if (field.former.empty()) continue;
    const std::size_t dot = field.former.find('.');
    renamed.push_back({field.section, field.key, std::string(field.former.substr(0, dot)),
                       std::string(field.former.substr(dot + 1))});
  }
  return renamed;
}

std::string help() {
  Config defaults;
  std::string text, section;
  for (const Field& field : fields_of(defaults)) {
    append_section(text, field, section);
    const std::string value = format(field);
    text += "  --" + field.name() + "=" + (value.empty() ? "…" : value) + "\n" +
            wrapped(core::concat(field.help, " (", describe_range(field), ")",
                                 field.former.empty() ? "" : ". Also accepted: its former name --", field.former));
  }
  return text;
}

std::string dump(const Config& config) {
  Config values = config, defaults;
  const std::vector<Field> fields = fields_of(values), standard = fields_of(defaults);
  std::string text, section;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    append_section(text, fields[i], section);
    const bool is_default = format(fields[i]) == format(standard[i]);
    text += "# " + std::string(fields[i].help) + " (" + describe_range(fields[i]) + ")" +
            (is_default ? ", default" : "") + "\n" + as_line(fields[i]);
  }
  return text;
}

std::string json(const Config& config) {
  Config values = config;
  nlohmann::ordered_json object;
  for (const Field& field : fields_of(values)) {
    object[field.section][field.key] = std::visit(AsJson(), field.target);
  }
  return core::json_text(object);
}

}  // namespace caravan::config
