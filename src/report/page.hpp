// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caravan::report {

/// "8,030,261,248".
std::string grouped(std::int64_t number);

/// Cells of a table, a row each; rows may be shorter than the first.
using Rows = std::vector<std::vector<std::string>>;

/// Text of aligned lines: a title, "key  value" lines, tables, and at the end what was checked.
class Page {
 public:
  void title(const std::string& kind, const std::string& path);
  /// A line of the current list of keys. A value of several lines is indented as a whole.
  void line(const std::string& key, const std::string& value);
  /// Begins a new list under a heading.
  void heading(const std::string& text);
  /// Under a heading, or "" for none. rows[0] is the head. Columns named in `numbers` are aligned to the right.
  void table(const std::string& heading, const Rows& rows, const std::vector<std::size_t>& numbers);

  /// What was looked at and found right, what was not looked at, and what is wrong.
  void checked(const std::string& what);
  void unchecked(const std::string& what);
  void problem(const std::string& what);

  const std::vector<std::string>& problems() const { return problems_; }
  std::string text() const;

 private:
  void end_list();

  std::string text_;
  Rows list_;
  Rows checks_;
  std::vector<std::string> problems_;
};

}  // namespace caravan::report
