// SPDX-License-Identifier: Apache-2.0
#include "io/metrics_line.hpp"

#include <limits>
#include <type_traits>

namespace caravan::io {
namespace {

using nlohmann::json;

void write(json& to, const char* name, std::int64_t value) { to[name] = value; }
template <typename T>
void write(json& to, const char* name, const std::optional<T>& value) {
  if (value) to[name] = *value;
}

template <typename T>
bool is_a(const json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_same_v<T, std::int64_t>) return value.is_number_integer();
  return value.is_object();
}

bool read(const json& value, std::int64_t& target) {
  if (!is_a<std::int64_t>(value)) return false;
  target = value.get<std::int64_t>();
  return true;
}
template <typename T>
bool read(const json& value, std::optional<T>& target) {
  if (is_a<T>(value)) target = value.get<T>();
  return true;
}
bool read(const json& value, std::optional<double>& target) {
  if (value.is_null()) target = std::numeric_limits<double>::quiet_NaN();
  if (value.is_number()) target = value.get<double>();
  return true;
}

}  // namespace

json MetricsLine::to_json() const {
  json line = json::object();
  describe(*this, [&](const char* name, const auto& value, const char*, const char*) { write(line, name, value); });
  return line;
}

std::optional<MetricsLine> MetricsLine::from_json(const json& json) {
  if (!json.is_object() || !json.contains("step")) return std::nullopt;
  MetricsLine line;
  bool good = true;
  describe(line, [&](const char* name, auto& value, const char*, const char*) {
    if (const auto found = json.find(name); found != json.end()) good = read(*found, value) && good;
  });
  return good ? std::optional(line) : std::nullopt;
}

}  // namespace caravan::io
