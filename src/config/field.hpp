// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/options.hpp"

namespace caravan::config {

/// One setting of a Config, or one flag of a command (then without a section): where its value is and what a room says
/// about it.
struct Field {
  using Target = std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::string>*, core::Mebibytes*,
                              core::Choice>;

  std::string section;
  std::string key;
  Target target;
  core::Range range;
  std::string_view help;
  std::string_view former{};  // "section.key", another name that is accepted; empty: none

  std::string name() const { return section.empty() ? key : section + "." + key; }
  bool is_list() const { return std::holds_alternative<std::vector<std::string>*>(target); }
  /// A command's own yes-or-no flag, which takes no value.
  bool is_switch() const { return section.empty() && std::holds_alternative<bool*>(target); }
};

/// The visitor of the rooms' describe(): lists their fields.
class FieldList {
 public:
  explicit FieldList(std::string section) : section_(std::move(section)) {}

  template <typename Value>
  void operator()(const char* key, Value& value, core::Range range, std::string_view help,
                  std::string_view former = {}) {
    if constexpr (core::Spelled<Value>) {
      const core::Choice choice(value);
      range.choices.assign(choice.names().begin(), choice.names().end());
      fields_.push_back({section_, key, choice, std::move(range), help, former});
    } else {
      fields_.push_back({section_, key, &value, std::move(range), help, former});
    }
  }

  std::vector<Field> take() { return std::move(fields_); }

 private:
  std::string section_;
  std::vector<Field> fields_;
};

/// "-?[0-9]+", shortest round-trip decimal, "true", text; list items joined by ", ". Not quoted.
std::string format(const Field& field);

/// The number format() writes for a double: shortest text that reads back as the same value.
std::string format(double value);

/// "1 to 64 ranks", "above 0", "fp32 or bf16", "text": for help and messages.
std::string describe_range(const Field& field);

/// Sets the field from text (list fields: from items). Returns "" or what is wrong: "train.lr = x is not a number", …
std::string assign(const Field& field, const std::vector<std::string>& items);

}  // namespace caravan::config
