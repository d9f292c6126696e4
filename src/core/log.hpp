// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <future>
#include <string>

#include "core/error.hpp"

namespace caravan::core {

/// Where lines go. Rank 0 prints to standard output and, once a run folder is open, appends to its log.txt; other
/// ranks are silent except for warnings of their own and errors. Set once, in main, and by the command that opens a
/// run. Any thread may log. Standard output and standard error may be pipes that nobody empties: whoever logs waits two
/// seconds for them once, and from then on goes on without. What comes late comes in order, and where lines were lost a
/// warning counts them; log.txt has them all. At its end the process waits two seconds more.
void log_as_rank(int rank, int world);
void log_to_file(const std::string& path);

/// One line, printed by rank 0 only.
void log_line(const std::string& line);
/// One line "warning: …", printed by rank 0 only.
void log_warning(const std::string& line);
/// One line on standard error from any rank: "error: …", with the rank when there is more than one. Always
/// waits for it, two seconds at most, since it may be the last thing that the process says.
void log_error(const std::string& line);
/// What log_error() writes, with the end of the line; the same as a warning.
std::string error_text(const std::string& line);
std::string warning_text(const std::string& line);
/// Begins to write such a text to standard error and then to log.txt, with write(2), by a thread of its own: the one
/// may be a pipe that nobody empties, the other one on a file system that does not answer. Ready when all is there; not
/// valid when the system has no thread left: then nothing is written.
std::future<void> write_apart(const std::string& text);
/// Writes it to standard error, with write(2).
void write_to_stderr(const std::string& text);

template <typename... Parts>
void log(const Parts&... parts) {
  log_line(concat(parts...));
}

}  // namespace caravan::core
