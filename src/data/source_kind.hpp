// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace caravan::data {

/// What a file of instructions seems to be, where it cannot be a JSON array or JSON lines at all, and what to do:
/// "is a gzip archive; unpack it (gunzip)". Looks at its first bytes, and at the end of its first line or object.
std::optional<std::string> foreign_kind(std::string_view bytes);

enum class Place {
  in_array,   // an element of the file's array
  on_a_line,  // one of several lines
  alone,      // the only line
};

/// The same of a file whose first record is JSON but no instruction record: records in another format, or one object
/// that holds them all. `record` is its text. Nothing where the file may hold other records that are right.
std::optional<std::string> foreign_records(std::string_view record, Place place);

}  // namespace caravan::data
