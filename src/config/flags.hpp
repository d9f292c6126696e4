// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/field.hpp"

namespace caravan::config {

/// One flag of a command line: "--name=value", "--name value" or, where it takes no value, "--name".
struct Flag {
  std::string name;   // without the dashes
  std::string value;  // may be empty; "true" where none is taken
  bool known = false;
};

/// The words behind a command, taken apart.
struct CommandLine {
  std::vector<std::string> words;  // neither a flag nor a flag's value, in their order
  std::vector<Flag> flags;         // in their order
};

/// Takes a command line apart. `names` are flags with a value, `switches` those without. Other flags are marked, not
/// refused. Throws (exit 2) when a value is missing, or stands where none is taken.
CommandLine split_flags(const std::vector<std::string>& arguments, const std::vector<std::string>& names,
                        const std::vector<std::string>& switches);

/// Reads the flags of a command that takes no configuration into `fields`, and returns the words that are no flags.
/// Throws (exit 2) one message with all that is wrong: "caravan COMMAND: unknown flag --modle; did you mean --model?;
/// USAGE".
std::vector<std::string> read_flags(const std::string& command, const std::string& usage, std::vector<Field> fields,
                                    const std::vector<std::string>& arguments);

}  // namespace caravan::config
