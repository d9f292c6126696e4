// SPDX-License-Identifier: Apache-2.0
#include "report/page.hpp"

#include <algorithm>

namespace caravan::report {
namespace {

constexpr std::size_t indent = 2;
constexpr std::size_t gap = 2;

// Characters, not bytes, of UTF-8.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

std::string aligned(const Rows& rows, const std::vector<std::size_t>& numbers) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    // The last cell of a row needs no room beside it.
    for (std::size_t c = 0; c + 1 < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
  }
  for (const std::size_t c : numbers) {
    for (const auto& row : rows) {
      if (c < row.size()) widths[c] = std::max(widths[c], width(row[c]));
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line(indent, ' ');
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::size_t cell = width(row[c]);
      const std::string padding(widths[c] > cell ? widths[c] - cell : 0, ' ');
      const bool right = std::find(numbers.begin(), numbers.end(), c) != numbers.end();
      line += right ? padding + row[c] : row[c] + padding;
      if (c + 1 < row.size()) line += std::string(gap, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

void Page::title(const std::string& kind, const std::string& path) {
  end_list();
  text_ += (text_.empty() ? "" : "\n") + kind + ": " + path + "\n";
}

void Page::line(const std::string& key, const std::string& value) {
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = value.find('\n', begin);
    list_.push_back({begin == 0 ? key : "", value.substr(begin, end - begin)});
    if (end == std::string::npos) return;
    begin = end + 1;
  }
}

void Page::heading(const std::string& text) {
  end_list();
  text_ += "\n" + text + "\n";
}

void Page::table(const std::string& heading, const Rows& rows, const std::vector<std::size_t>& numbers) {
  end_list();
  text_ += "\n" + heading + (heading.empty() ? "" : "\n") + aligned(rows, numbers);
}

void Page::checked(const std::string& what) { checks_.push_back({"ok", what}); }

void Page::unchecked(const std::string& what) { checks_.push_back({"not read", what}); }

void Page::problem(const std::string& what) { problems_.push_back(what); }

std::string Page::text() const {
  Rows checks = checks_;
  for (const std::string& problem : problems_) checks.push_back({"PROBLEM", problem});  // last, where the eye ends
  return text_ + aligned(list_, {}) + (checks.empty() ? "" : "\nchecks\n" + aligned(checks, {}));
}

void Page::end_list() {
  text_ += aligned(list_, {});
  list_.clear();
}

}  // namespace caravan::report
