// SPDX-License-Identifier: Apache-2.0
#include "family/config_fields.hpp"

#include <cmath>
#include <utility>

#include "core/error.hpp"
#include "core/json.hpp"
#include "io/atomic_file.hpp"

namespace caravan::family {

ConfigFields ConfigFields::from_file(const std::string& file) {
  if (!io::size_of_file(file)) core::bad_input(file, ": cannot be read; a model folder holds config.json");
  nlohmann::json object;
  try {
    object = core::parse_json(io::read_file(file));
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(file, ": not valid JSON: ", error.what());
  }
  if (!object.is_object()) core::bad_input(file, ": not a JSON object");
  return {file, std::move(object)};
}

ConfigFields::ConfigFields(std::string file, nlohmann::json object, std::string prefix)
    : file_(std::move(file)), object_(std::move(object)), prefix_(std::move(prefix)) {}

bool ConfigFields::has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

const nlohmann::json& ConfigFields::at(const char* key) const {
  if (!has(key)) core::bad_input(file_, ": field ", prefix_, key, " is missing");
  return object_.at(key);
}

void ConfigFields::refuse(const char* key, const std::string& why) const {
  core::bad_input(file_, ": ", prefix_, key, " = ", object_.contains(key) ? core::json_text(object_.at(key)) : "null",
                  why);
}

std::string ConfigFields::text(const char* key) const {
  if (!at(key).is_string()) refuse(key, " is not text");
  return at(key).get<std::string>();
}

std::int64_t ConfigFields::whole(const char* key, std::int64_t least, std::int64_t most) const {
  const nlohmann::json& value = at(key);
  // As a double, too: the limits are far below 2^53, from which on doubles leave out whole numbers.
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (number != std::floor(number) || number < static_cast<double>(least) || number > static_cast<double>(most)) {
    refuse(key, core::concat(" is not a whole number from ", least, " to ", most));
  }
  return static_cast<std::int64_t>(number);
}

std::int64_t ConfigFields::whole_or(const char* key, std::int64_t least, std::int64_t otherwise) const {
  return has(key) ? whole(key, least) : otherwise;
}

double ConfigFields::positive(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
    refuse(key, " is not a number above 0");
  }
  return value.get<double>();
}

double ConfigFields::positive_or(const char* key, double otherwise) const {
  return has(key) ? positive(key) : otherwise;
}

bool ConfigFields::flag_or(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& value = at(key);
  if (value == 0 || value == 1) return value == 1;
  if (!value.is_boolean()) refuse(key, " is not true or false");
  return value.get<bool>();
}

ConfigFields ConfigFields::inside(const char* key) const {
  if (!at(key).is_object()) refuse(key, " is not a JSON object");
  return {file_, at(key), prefix_ + key + "."};
}

void ConfigFields::only(const char* key, const nlohmann::json& neutral) const {
  if (!has(key) || object_.at(key) == neutral) return;
  refuse(key, core::concat(" is not implemented; only ", core::json_text(neutral), " is"));
}

}  // namespace caravan::family
