// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/error.hpp"

namespace caravan::core {

/// Where lines go. Rank 0 prints to standard output and, once a run folder is open, appends to its log.txt; other
/// ranks are silent except for warnings of their own and errors. Set once, in main, and by the command that opens a
/// run. Any thread may log.
void log_as_rank(int rank, int world);
void log_to_file(const std::string& path);

/// One line, printed by rank 0 only.
void log_line(const std::string& line);
/// One line "warning: …", printed by rank 0 only.
void log_warning(const std::string& line);
/// One line on standard error from any rank: "error: …", with the rank when there is more than one.
void log_error(const std::string& line);
/// What log_error() writes, with the end of the line.
std::string error_text(const std::string& line);
/// Of log.txt; -1: none is open.
int log_descriptor();

template <typename... Parts>
void log(const Parts&... parts) {
  log_line(concat(parts...));
}

}  // namespace caravan::core
