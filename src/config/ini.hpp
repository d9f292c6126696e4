// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace caravan::config {

/// A line "key = value" or a section header, not yet understood.
struct IniLine {
  int number = 0;       // from 1
  std::string section;  // without brackets
  std::string key;      // empty: the line is the section's header
  std::string value;    // as written, with quotes and comment
};

/// The lines of an INI file that say something: "[section]", "key = value"; lines that begin with # or ; and empty ones
/// are comments. Other lines and keys before the first section are appended to `errors` as "FILE:LINE: …".
std::vector<IniLine> read_ini(std::string_view text, const std::string& file, std::vector<std::string>& errors);

/// The items of a value: one, or with `list` those between commas (none for an empty value). An item is trimmed and may
/// stand in single or double quotes, which keep spaces, commas and comment signs. With `comments`, an unquoted # or ;
/// after white space ends the value. Appends to `errors` ("FILE:LINE: …" begins with `where`) when a quote is not
/// closed.
std::vector<std::string> split_value(std::string_view value, bool list, bool comments, const std::string& where,
                                     std::vector<std::string>& errors);

/// Replaces ${NAME} by the environment's variable, "$${" by "${". Unknown or unclosed names are appended to `errors`.
std::string expand_variables(const std::string& text, const std::string& where, std::vector<std::string>& errors);

/// The item as a file would have to spell it: quoted and with "${" escaped where needed.
std::string quote_item(const std::string& item, bool in_list);

}  // namespace caravan::config
