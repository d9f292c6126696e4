// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace caravan::core {

// The library's parser and printer are templates that take seconds to compile in each file that calls them; behind
// these functions they are compiled once.

/// Throws nlohmann::json::parse_error, which knows the byte, when `text` is not one JSON value.
nlohmann::json parse_json(std::string_view text);
nlohmann::ordered_json parse_ordered_json(std::string_view text);

/// As parse_json(), but gives a value that is_discarded() when `text` is not one JSON value: a torn line, a damaged
/// file.
nlohmann::json parse_json_if_valid(std::string_view text);

/// On one line, or with `indent` spaces a level from 0. Bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);

}  // namespace caravan::core
