// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace caravan::data {

/// What a JSON value is and, of an object, what its fields are. Reads values of any size without keeping them.
struct JsonOutline {
  enum class Kind {
    none,        // not JSON; or no such field
    incomplete,  // JSON that is cut off
    null,
    scalar,  // a number, true or false
    text,
    object,
    array,             // of something else, or empty
    array_of_objects,  // by its first element, as those below
    array_of_arrays,
    array_of_texts,
  };
  struct Field {
    std::string name{};
    Kind kind = Kind::none;
    std::vector<std::string> keys{};  // of an object, or of the first element of an array of objects; the first ones
  };
  Kind kind = Kind::none;
  std::vector<Field> fields{};  // of an object; the first ones only
  std::size_t end = 0;          // where the text goes on behind the value
  std::string problem{};        // ": reason" when it is not JSON

  /// Of the value that `text` begins with.
  static JsonOutline of(std::string_view text);

  /// Whether there is such a field, and it is not null.
  bool has(std::string_view name) const { return kind_of(name) != Kind::none && kind_of(name) != Kind::null; }
  Kind kind_of(std::string_view name) const;
  /// None when there is no such field.
  std::vector<std::string> keys_of(std::string_view name) const;
};

}  // namespace caravan::data
