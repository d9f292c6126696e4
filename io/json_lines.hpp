// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/file_descriptor.hpp"

namespace caravan::io {

/// Appends one JSON object per line to a file, each with one write, so that a reader or a crash sees whole lines.
/// Finite numbers are written with the digits that read back to the same double; NaN and infinities become null.
class JsonLines {
 public:
  /// Creates the file if need be; a torn last line (one without its line feed) of an earlier process is cut off.
  explicit JsonLines(const std::filesystem::path& path);

  /// Throws core::SystemError with the path.
  void append(const nlohmann::json& line);

  /// Returns when every line is on the storage. Throws as append() does.
  void sync();

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

/// Hands the whole lines, numbered from 1, to `visit`, as long as it returns true; a line that is not JSON comes as a
/// discarded value. What stands behind the last line feed is no line. A missing file has none.
using JsonLineVisitor = std::function<bool(std::size_t number, const nlohmann::json& line)>;
void read_json_lines(const std::filesystem::path& path, const JsonLineVisitor& visit);

/// The newest whole line, read from the file's end; empty when there is none, or no file.
std::string last_line(const std::filesystem::path& path);

/// Keeps the lines from the first one on for which `keep`, called as above, returns true, and drops the rest, and a
/// torn last line in any case. The file is replaced atomically, or left alone when all stays; a missing file is left
/// missing.
void cut_json_lines(const std::filesystem::path& path, const JsonLineVisitor& keep);

}  // namespace caravan::io
