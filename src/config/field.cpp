// SPDX-License-Identifier: Apache-2.0
#include "config/field.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::config {
namespace {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;  // which clang 14 does not find itself

std::string limit(double value) {
  // Large whole limits read better without an exponent.
  if (value == std::floor(value) && std::fabs(value) < 1e15) return std::to_string(static_cast<std::int64_t>(value));
  return format(value);
}

std::string with_unit(std::string text, const core::Range& range) {
  if (!range.unit.empty()) (text += ' ') += range.unit;
  return text;
}

std::string wrong(const Field& field, const std::string& text, const std::string& why) {
  return field.name() + " = " + (text.empty() ? "(nothing)" : text) + " " + why;
}

std::string check_number(const Field& field, const std::string& text, double value) {
  const core::Range& range = field.range;
  const bool inside = value <= range.most && (range.least_excluded ? value > range.least : value >= range.least);
  if (inside) return "";
  return wrong(field, text, "is out of range; use " + describe_range(field));
}

std::string check_choice(const Field& field, const std::string& text) {
  const auto& choices = field.range.choices;
  if (choices.empty() || std::find(choices.begin(), choices.end(), text) != choices.end()) return "";
  const std::string near = core::nearest_match(text, choices);
  return wrong(
      field, text,
      "is not a choice; use " + core::join(choices, " or ") + (near.empty() ? "" : "; did you mean " + near + "?"));
}

template <typename Number>
std::string assign_number(const Field& field, const std::string& text, Number* target, const char* kind) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    return wrong(field, text, "is out of range; use " + describe_range(field));
  }
  if (error != std::errc{} || end != text.data() + text.size() || std::isnan(static_cast<double>(value))) {
    return wrong(field, text, core::concat("is not a ", kind));
  }
  std::string complaint = check_number(field, text, static_cast<double>(value));
  if (complaint.empty()) *target = value;
  return complaint;
}

std::string assign_flag(const Field& field, const std::string& text, bool* target) {
  constexpr std::array<std::string_view, 3> on{"true", "yes", "on"}, off{"false", "no", "off"};
  const bool is_on = std::find(on.begin(), on.end(), text) != on.end();
  if (!is_on && std::find(off.begin(), off.end(), text) == off.end()) {
    return wrong(field, text, "is not a choice; use true or false");
  }
  *target = is_on;
  return "";
}

}  // namespace

std::string format(double value) {
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

std::string format(const Field& field) {
  return std::visit(
      Overloaded{[](const bool* value) { return std::string(*value ? "true" : "false"); },
                 [](const std::int64_t* value) { return std::to_string(*value); },
                 [](const double* value) { return format(*value); }, [](const std::string* value) { return *value; },
                 [](const std::vector<std::string>* value) { return core::join(*value, ", "); },
                 [](const core::Mebibytes* value) { return std::to_string(value->count); },
                 [](const core::Choice& value) { return std::string(value.name()); }},
      field.target);
}

std::string describe_range(const Field& field) {
  const core::Range& range = field.range;
  if (!range.choices.empty()) {
    return field.is_list() ? "any of " + core::join(range.choices) : core::join(range.choices, " or ");
  }
  if (std::holds_alternative<bool*>(field.target)) return "true or false";
  if (field.is_list()) return with_unit("list of", {.unit = range.unit.empty() ? "text" : range.unit});
  if (std::holds_alternative<std::string*>(field.target)) return range.unit.empty() ? "text" : std::string(range.unit);
  const bool low = std::isfinite(range.least), high = std::isfinite(range.most);
  if (range.least_excluded) {
    return with_unit("above " + limit(range.least) + (high ? " and at most " + limit(range.most) : ""), range);
  }
  if (low && high) return with_unit(limit(range.least) + " to " + limit(range.most), range);
  if (low) return with_unit("at least " + limit(range.least), range);
  return with_unit(high ? "at most " + limit(range.most) : "a number", range);
}

std::string assign(const Field& field, const std::vector<std::string>& items) {
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&field.target)) {
    for (const std::string& item : items) {
      if (std::string complaint = check_choice(field, item); !complaint.empty()) return complaint;
    }
    **list = items;
    return "";
  }
  CARAVAN_CHECK(items.size() == 1, field.name());
  const std::string& text = items[0];
  return std::visit(
      Overloaded{
          [&](bool* target) { return assign_flag(field, text, target); },
          [&](std::int64_t* target) { return assign_number(field, text, target, "whole number"); },
          [&](double* target) { return assign_number(field, text, target, "number"); },
          [&](std::string* target) {
            std::string complaint = check_choice(field, text);
            if (complaint.empty()) *target = text;
            return complaint;
          },
          [](std::vector<std::string>*) { return std::string(); },
          [&](core::Mebibytes* target) { return assign_number(field, text, &target->count, "whole number"); },
          [&](const core::Choice& target) { return target.choose(text) ? std::string() : check_choice(field, text); }},
      field.target);
}

}  // namespace caravan::config
