// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/field.hpp"
#include "config/flags.hpp"

namespace caravan::config {

/// Two settings, "section.key", that exclude each other: see core::Exclusive.
struct ExclusivePair {
  std::string first;
  std::string second;
  bool one_is_needed = false;
};

/// Sets fields from one source after the other (files, command lines) and collects all that is wrong. `where` begins
/// each message: "FILE:LINE: ", "command line: ".
class Assigner {
 public:
  /// kind: what an unknown name is said not to be, "setting " or "flag --".
  Assigner(std::vector<Field> fields, std::string kind, std::vector<ExclusivePair> exclusives = {});

  /// Takes a command line apart; an error of its form is collected, and then nothing of it is returned.
  CommandLine split(const std::string& where, const std::vector<std::string>& arguments);
  /// Sets what the flags say. Ends the source.
  void set_flags(const std::string& where, const CommandLine& line);

  /// Sets one field. in_file: comments end the value, see split_value.
  void set(const std::string& where, const std::string& name, const std::string& value, bool in_file);
  /// Settings that exclude each other may replace each other from one source to the next, but not within one.
  void end_source();
  /// After the last source.
  void end();

  void unknown(const std::string& where, const std::string& kind, const std::string& name,
               const std::vector<std::string>& candidates);
  std::vector<std::string>& errors() { return errors_; }

 private:
  const Field* find(const std::string& name) const;
  const Field& field(const std::string& name) const;

  struct Given {
    std::string where;
    std::vector<std::string> items;
  };
  std::vector<Field> fields_;
  std::vector<std::string> names_;  // of the fields, in their order
  std::string kind_;
  std::vector<ExclusivePair> exclusives_;
  std::map<std::string, Given> given_;  // by the present source
  std::vector<std::string> errors_;
};

}  // namespace caravan::config
