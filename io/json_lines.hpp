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

  /// Throws with the path: exit 74 when the storage is full, else exit 2.
  void append(const nlohmann::json& line);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

/// Keeps the lines from the first one on while `keep(parsed line)` holds and drops the rest, and a torn last line in
/// any case. The file is replaced atomically, or left alone when all stays; a missing file is left missing. Throws
/// (exit 2) with file:line when a whole line is not JSON.
void cut_json_lines(const std::filesystem::path& path, const std::function<bool(const nlohmann::json&)>& keep);

}  // namespace caravan::io
