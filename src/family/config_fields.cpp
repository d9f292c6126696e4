// SPDX-License-Identifier: Apache-2.0
#include "family/config_fields.hpp"

#include <cmath>
#include <utility>

#include "core/error.hpp"
#include "io/atomic_file.hpp"

namespace caravan::family {

ConfigFields ConfigFields::from_file(const std::string& file) {
  if (!io::size_of_file(file)) core::bad_input(file, ": cannot be read; a model folder holds config.json");
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(io::read_file(file));
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
  core::bad_input(
      file_, ": ", prefix_, key, " = ",
      object_.contains(key) ? object_.at(key).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : "null",
      why);
}

std::string ConfigFields::text(const char* key) const {
  if (!at(key).is_string()) refuse(key, " is not text");
  return at(key).get<std::string>();
}

std::int64_t ConfigFields::whole(const char* key, std::int64_t least, std::int64_t most) const {
  const nlohmann::json& value = at(key);
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                               : value.is_number_integer();
  if (!fits || value.get<std::int64_t>() < least) {
    refuse(key, core::concat(" is not a whole number from ", least, " to ", most));
  }
  return value.get<std::int64_t>();
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
  if (!at(key).is_boolean()) refuse(key, " is not true or false");
  return at(key).get<bool>();
}

ConfigFields ConfigFields::inside(const char* key) const {
  if (!at(key).is_object()) refuse(key, " is not a JSON object");
  return {file_, at(key), prefix_ + key + "."};
}

void ConfigFields::only(const char* key, const nlohmann::json& neutral) const {
  if (!has(key) || object_.at(key) == neutral) return;
  refuse(key, core::concat(" is not implemented; only ", neutral.dump(), " is"));
}

}  // namespace caravan::family
