// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace caravan::config {

/// One word of a command line: "--name=value", "--name value" or something else.
struct Flag {
  std::string word;   // as it was typed
  std::string name;   // without the dashes; empty: not a flag
  std::string value;  // may be empty
  bool known = false;
};

/// Splits a command line whose flags all take a value. Unknown flags and other words are marked, not refused. Throws
/// (exit 2) when a flag's value is missing.
std::vector<Flag> split_flags(const std::vector<std::string>& arguments, const std::vector<std::string>& names);

}  // namespace caravan::config
