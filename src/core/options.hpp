// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

// How a room describes its options once. A room's options.hpp holds a plain struct with defaults and
//   template <typename Visitor> void describe(Visitor& visit) {
//     visit("steps", steps, core::whole(0, 1'000'000'000), "number of optimizer steps; 0: use epochs");
//   }
// Parsing, --help, --dump-config, validation and the configuration's hash are visitors, so they cannot drift apart.
// Field types: bool, std::int64_t, double, std::string, std::vector<std::string> (repeatable or comma-separated).
namespace caravan::core {

/// What values an option takes, with its unit for help texts.
struct Range {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool least_excluded = false;
  std::vector<std::string> choices{};  // for text: exactly these, if not empty
  std::string_view unit{};             // "tokens", "sequences", "s", …
};

inline Range whole(std::int64_t least, std::int64_t most, std::string_view unit = {}) {
  return {static_cast<double>(least), static_cast<double>(most), false, {}, unit};
}
inline Range real(double least, double most, std::string_view unit = {}) { return {least, most, false, {}, unit}; }
inline Range above(double least, double most, std::string_view unit = {}) { return {least, most, true, {}, unit}; }
inline Range one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }
inline Range text() { return {}; }
inline Range path() { return {.unit = "path"}; }
inline Range flag() { return {}; }

}  // namespace caravan::core
