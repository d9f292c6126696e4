// SPDX-License-Identifier: Apache-2.0
#include "data/json_outline.hpp"

#include <nlohmann/json.hpp>

#include "core/error.hpp"

namespace caravan::data {
namespace {

using nlohmann::json;
using Kind = JsonOutline::Kind;
using Field = JsonOutline::Field;

/// Takes the parser's events.
class Outliner {
 public:
  explicit Outliner(JsonOutline& outline) : outline_(outline) {}

  bool null() { return value(Kind::null); }
  bool boolean(bool) { return value(Kind::scalar); }
  bool number_integer(json::number_integer_t) { return value(Kind::scalar); }
  bool number_unsigned(json::number_unsigned_t) { return value(Kind::scalar); }
  bool number_float(json::number_float_t, const std::string&) { return value(Kind::scalar); }
  bool string(std::string&) { return value(Kind::text); }
  bool binary(json::binary_t&) { return value(Kind::scalar); }
  bool start_object(std::size_t) { return open(Kind::object); }
  bool start_array(std::size_t) { return open(Kind::array); }
  bool end_object() { return --depth_ >= 0; }
  bool end_array() { return --depth_ >= 0; }
  bool key(std::string& name) {
    constexpr std::size_t most = 64;
    if (depth_ == 1) {
      kept_ = outline_.fields.size() < most;
      elements_ = 0;
      if (kept_) outline_.fields.push_back({name, Kind::none});
    } else if (kept_ && outline_.kind == Kind::object && outline_.fields.back().keys.size() < most) {
      Field& field = outline_.fields.back();
      const bool of_field = depth_ == 2 && field.kind == Kind::object;
      const bool of_element = depth_ == 3 && field.kind == Kind::array_of_objects && elements_ == 1;
      if (of_field || of_element) field.keys.push_back(name);
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& error) {
    outline_.problem = error.what();
    return false;
  }

 private:
  static bool is_array(Kind kind) {
    return kind == Kind::array || kind == Kind::array_of_objects || kind == Kind::array_of_arrays ||
           kind == Kind::array_of_texts;
  }
  bool open(Kind kind) {
    value(kind);
    ++depth_;
    return true;
  }
  bool value(Kind kind) {
    if (depth_ == 0) {
      outline_.kind = kind;
    } else if (depth_ == 1 && outline_.kind == Kind::object) {
      if (kept_) outline_.fields.back().kind = kind;
    } else if (depth_ == 2 && kept_ && is_array(outline_.fields.back().kind)) {
      if (++elements_ == 1) {
        outline_.fields.back().kind = kind == Kind::object  ? Kind::array_of_objects
                                      : kind == Kind::array ? Kind::array_of_arrays
                                      : kind == Kind::text  ? Kind::array_of_texts
                                                            : Kind::array;
      }
    }
    return true;
  }

  JsonOutline& outline_;
  int depth_ = 0;
  bool kept_ = false;  // the field at hand is among those that are listed
  int elements_ = 0;   // of an array that is this field's value, so far
};

/// Counts what the parser takes, which reads one character behind a number.
struct CountedText {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at = nullptr;
  const char** furthest = nullptr;

  const char& operator*() const { return *at; }
  CountedText& operator++() {
    *furthest = std::max(*furthest, ++at);
    return *this;
  }
  CountedText operator++(int) {
    CountedText before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountedText& other) const { return at == other.at; }
};

}  // namespace

JsonOutline JsonOutline::of(std::string_view text) {
  JsonOutline outline;
  Outliner outliner(outline);
  const char* furthest = text.data();
  const bool whole =
      json::sax_parse(CountedText{text.data(), &furthest}, CountedText{text.data() + text.size(), &furthest}, &outliner,
                      json::input_format_t::json, false);
  outline.end = static_cast<std::size_t>(furthest - text.data());
  if (whole) return outline;
  const bool cut_off = outline.problem.find("unexpected end of input") != std::string::npos ||
                       outline.problem.find("missing closing quote") != std::string::npos;
  outline.kind = cut_off && outline.end >= text.size() ? Kind::incomplete : Kind::none;
  if (const auto reason = outline.problem.find(": "); reason != std::string::npos) outline.problem.erase(0, reason);
  if (const auto read = outline.problem.find("; last read:"); read != std::string::npos) outline.problem.erase(read);
  return outline;
}

JsonOutline::Kind JsonOutline::kind_of(std::string_view name) const {
  for (const Field& field : fields) {
    if (field.name == name) return field.kind;
  }
  return Kind::none;
}

std::vector<std::string> JsonOutline::keys_of(std::string_view name) const {
  for (const Field& field : fields) {
    if (field.name == name) return field.keys;
  }
  return {};
}

}  // namespace caravan::data
