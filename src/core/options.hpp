// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// How a room describes its options once. A room's options.hpp holds a plain struct with defaults and
//   template <typename Visitor> void describe(Visitor& visit) {
//     visit("steps", steps, core::whole(0, 1'000'000'000), "number of optimizer steps; 0: use epochs");
//   }
// A fifth argument is a former name, "section.key", which is accepted without a word. Beside describe(), the struct may
// have check(core::Complaints&), for what its values demand of each other, and `exclusives`.
// Parsing, --help, --dump-config, the checks of ranges, the JSON in checkpoints and the comparison of the ranks'
// configurations are visitors, so they cannot drift apart.
// Field types: bool, std::int64_t, double, std::string, std::vector<std::string> (repeatable or comma-separated),
// core::Mebibytes, and enums whose values have spellings.
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
inline Range choice() { return {}; }  // the enum's spellings

/// Two settings of a section of which a source gives at most one.
struct Exclusive {
  std::string_view first;
  std::string_view second;
  bool one_is_needed = false;  // "steps = 0" says that the epochs decide, and both cannot be 0
};

/// A size as settings give it, in units of 2^20 bytes.
struct Mebibytes {
  std::int64_t count = 0;
  constexpr std::int64_t bytes() const { return count << 20; }
};

/// An enum with a function beside it that spells its values, in their order, which begin with 0:
///   enum class Precision { bf16, fp32 };
///   constexpr std::array<std::string_view, 2> spellings(Precision) { return {"bf16", "fp32"}; }
template <typename Enum>
concept Spelled = std::is_enum_v<Enum> && requires(Enum value) {
  spellings(value);
};

template <Spelled Enum>
inline constexpr auto spellings_of = spellings(Enum{});

/// How settings, files and messages spell a value.
template <Spelled Enum>
constexpr std::string_view spelling(Enum value) {
  return spellings_of<Enum>.at(static_cast<std::size_t>(value));
}

/// A setting with one of an enum's values, whatever the enum is.
class Choice {
 public:
  template <Spelled Enum>
  explicit Choice(Enum& value)
      : names_(spellings_of<Enum>),
        value_(&value),
        index_([](const void* at) { return static_cast<std::size_t>(*static_cast<const Enum*>(at)); }),
        choose_([](void* at, std::size_t index) { *static_cast<Enum*>(at) = static_cast<Enum>(index); }) {}

  std::span<const std::string_view> names() const { return names_; }
  /// The name of the present value.
  std::string_view name() const { return names_[index_(value_)]; }
  /// Sets the value; false, and nothing else, when there is no such name.
  bool choose(std::string_view name) const {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) return false;
    choose_(value_, static_cast<std::size_t>(found - names_.begin()));
    return true;
  }

 private:
  std::span<const std::string_view> names_;
  void* value_;
  std::size_t (*index_)(const void* value);
  void (*choose_)(void* value, std::size_t index);
};

}  // namespace caravan::core
