// SPDX-License-Identifier: Apache-2.0
#include "io/json_lines.hpp"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "io/atomic_file.hpp"
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
  const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  write_all(file_.get(), text.data(), text.size(), path_);
}

void cut_json_lines(const std::filesystem::path& path, const std::function<bool(const nlohmann::json&)>& keep) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_file(path);
  std::size_t kept = 0;
  for (std::size_t number = 1;; ++number) {
    const std::size_t end = text.find('\n', kept);
    if (end == std::string::npos) break;
    const std::string_view line = std::string_view(text).substr(kept, end - kept);
    const nlohmann::json parsed = nlohmann::json::parse(line, nullptr, false);
    if (parsed.is_discarded()) {
      core::bad_input(path.string(), ":", number, ": the line is not JSON; remove it or move the file away");
    }
    if (!keep(parsed)) break;
    kept = end + 1;
  }
  if (kept < text.size()) write_file_atomically(path, std::string_view(text).substr(0, kept));
}

}  // namespace caravan::io
