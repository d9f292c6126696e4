// SPDX-License-Identifier: Apache-2.0
#include "config/ini.hpp"

#include <cstdlib>

#include "core/error.hpp"

namespace caravan::config {
namespace {

constexpr std::string_view blanks = " \t\r\f\v";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

bool is_blank(char c) { return blanks.find(c) != std::string_view::npos; }

}  // namespace

std::vector<IniLine> read_ini(std::string_view text, const std::string& file, std::vector<std::string>& errors) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);  // some editors' byte order mark
  std::vector<IniLine> lines;
  std::string section;
  bool any_section = false;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      const std::size_t close = line.find(']');
      const std::string_view rest = close == std::string_view::npos ? line : trim(line.substr(close + 1));
      if (close == std::string_view::npos || (!rest.empty() && rest[0] != '#' && rest[0] != ';')) {
        errors.push_back(core::concat(file, ":", number, ": a section is written [name]"));
        continue;
      }
      section = trim(line.substr(1, close - 1));
      any_section = true;
      lines.push_back({number, section, "", ""});
      continue;
    }
    const std::size_t equals = line.find('=');
    const std::string key(trim(line.substr(0, equals)));
    if (equals == std::string_view::npos || key.empty()) {
      errors.push_back(core::concat(file, ":", number, ": not understood: ", line, "; write key = value"));
    } else if (!any_section) {
      errors.push_back(core::concat(file, ":", number, ": ", key, " stands before any [section]"));
    } else {
      lines.push_back({number, section, key, std::string(trim(line.substr(equals + 1)))});
    }
  }
  return lines;
}

std::vector<std::string> split_value(std::string_view value, bool list, bool comments, const std::string& where,
                                     std::vector<std::string>& errors) {
  std::vector<std::string> items;
  std::size_t at = 0;
  while (true) {
    while (at < value.size() && is_blank(value[at])) ++at;
    std::string item;
    const bool quoted = at < value.size() && (value[at] == '"' || value[at] == '\'');
    if (quoted) {
      const std::size_t close = value.find(value[at], at + 1);
      if (close == std::string_view::npos) {
        errors.push_back(core::concat(where, "the quote ", value[at], " is not closed"));
        return {};
      }
      item = value.substr(at + 1, close - at - 1);
      at = close + 1;
    }
    const std::size_t rest = at;
    bool ended_by_comment = false;
    while (at < value.size() && !(list && value[at] == ',')) {
      if (comments && (value[at] == '#' || value[at] == ';') && (at == 0 || is_blank(value[at - 1]))) {
        ended_by_comment = true;
        break;
      }
      ++at;
    }
    const std::string_view tail = trim(value.substr(rest, at - rest));
    if (quoted && !tail.empty()) {
      errors.push_back(core::concat(where, "unexpected text after the closing quote: ", tail));
      return {};
    }
    if (!quoted) item = tail;
    const bool last = ended_by_comment || at >= value.size();
    // "a, b," and an empty list value hold no empty item.
    if (!list || quoted || !item.empty() || !last) items.push_back(item);
    if (last) return items;
    ++at;
  }
}

std::string expand_variables(const std::string& text, const std::string& where, std::vector<std::string>& errors) {
  std::string expanded;
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.compare(at, 3, "$${") == 0) {
      expanded += "${";
      at += 3;
    } else if (text.compare(at, 2, "${") == 0) {
      const std::size_t close = text.find('}', at);
      if (close == std::string::npos) {
        errors.push_back(core::concat(where, "${ is not closed by }"));
        return expanded;
      }
      const std::string name = text.substr(at + 2, close - at - 2);
      const char* value = std::getenv(name.c_str());
      if (value == nullptr) {
        errors.push_back(
            core::concat(where, "the environment has no variable ", name, "; set it, or write $${ for a literal ${"));
      } else {
        expanded += value;
      }
      at = close + 1;
    } else {
      expanded += text[at++];
    }
  }
  return expanded;
}

std::string quote_item(const std::string& item, bool in_list) {
  std::string escaped;
  for (std::size_t at = 0; at < item.size(); ++at) {
    if (item.compare(at, 2, "${") == 0) escaped += '$';
    escaped += item[at];
  }
  const bool edges = !item.empty() && (is_blank(item.front()) || is_blank(item.back()));
  const bool opens_quote = !item.empty() && (item.front() == '"' || item.front() == '\'');
  const bool needed = edges || opens_quote || escaped.find_first_of("#;") != std::string::npos ||
                      (in_list && (item.empty() || item.find(',') != std::string::npos));
  if (!needed) return escaped;
  const char quote = escaped.find('"') == std::string::npos ? '"' : '\'';
  return quote + escaped + quote;
}

}  // namespace caravan::config
