// SPDX-License-Identifier: Apache-2.0
#include "io/json_lines.hpp"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "core/json.hpp"
#include "io/atomic_file.hpp"
#include "io/mapped_file.hpp"
#include "io/system_error.hpp"

namespace caravan::io {

JsonLines::JsonLines(const std::filesystem::path& path) : path_(path) {
  file_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!file_.is_open()) throw_system_error("open", path, errno);
  const std::string text = read_file(path);
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  if (whole < text.size() && ::ftruncate(file_.get(), static_cast<off_t>(whole)) != 0) {
    throw_system_error("cut", path, errno);
  }
}

void JsonLines::append(const nlohmann::json& line) {
  const std::string text = core::json_text(line) + "\n";
  write_all(file_.get(), text.data(), text.size(), path_);
}

void JsonLines::sync() {
  if (::fdatasync(file_.get()) != 0) throw_system_error("write", path_, errno);
}

namespace {

// The bytes of the lines for which `visit` returned true.
std::size_t visit_lines(const std::string& text, const JsonLineVisitor& visit) {
  std::size_t visited = 0;
  for (std::size_t number = 1;; ++number) {
    const std::size_t end = text.find('\n', visited);
    if (end == std::string::npos) break;
    const std::string_view line = std::string_view(text).substr(visited, end - visited);
    if (!visit(number, core::parse_json_if_valid(line))) break;
    visited = end + 1;
  }
  return visited;
}

}  // namespace

void read_json_lines(const std::filesystem::path& path, const JsonLineVisitor& visit) {
  if (std::filesystem::exists(path)) visit_lines(read_file(path), visit);
}

std::string last_line(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return "";
  const MappedFile mapped(path);
  const std::string_view text{reinterpret_cast<const char*>(mapped.data()), mapped.size()};
  const std::size_t end = text.rfind('\n');  // what is after it was torn, or is being written
  if (end == std::string_view::npos) return "";
  const std::size_t before = end == 0 ? std::string_view::npos : text.rfind('\n', end - 1);
  const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
  return std::string(text.substr(begin, end - begin));
}

void cut_json_lines(const std::filesystem::path& path, const JsonLineVisitor& keep) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_file(path);
  const std::size_t kept = visit_lines(text, keep);
  if (kept < text.size()) write_file_atomically(path, std::string_view(text).substr(0, kept));
}

}  // namespace caravan::io
