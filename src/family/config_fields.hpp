// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace caravan::family {

/// A JSON object of a file, read field by field: every error names the file, the field and its value (exit 2).
class ConfigFields {
 public:
  /// Parses FILE. Throws (exit 2) when it cannot be read or is not a JSON object.
  static ConfigFields from_file(const std::string& file);

  ConfigFields(std::string file, nlohmann::json object, std::string prefix = {});

  const std::string& file() const { return file_; }
  /// Present and not null: transformers mostly takes its default for a field that is null as for one that is absent.
  bool has(const char* key) const;
  /// Present, be it as null.
  bool mentions(const char* key) const { return object_.contains(key); }
  std::string text(const char* key) const;
  /// A whole number in least … most, also when it is written 64.0. No published model comes near the default limit,
  /// below which two extents can be multiplied.
  std::int64_t whole(const char* key, std::int64_t least, std::int64_t most = std::int64_t{1} << 31) const;
  std::int64_t whole_or(const char* key, std::int64_t least, std::int64_t otherwise) const;
  /// A finite number above 0.
  double positive(const char* key) const;
  double positive_or(const char* key, double otherwise) const;
  /// true, false, or 1 and 0, which Python takes for them.
  bool flag_or(const char* key, bool otherwise) const;
  /// The object under a key.
  ConfigFields inside(const char* key) const;
  const nlohmann::json& json() const { return object_; }

  /// Throws unless the field is absent, null or equal to `neutral`: its meaning is not implemented.
  void only(const char* key, const nlohmann::json& neutral) const;

  /// Throws naming the field and its value.
  [[noreturn]] void refuse(const char* key, const std::string& why) const;

 private:
  const nlohmann::json& at(const char* key) const;

  std::string file_;
  nlohmann::json object_;
  std::string prefix_;  // "caravan.lora." for nested objects
};

}  // namespace caravan::family
