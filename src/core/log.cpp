// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <cstdio>
#include <memory>

namespace caravan::core {
namespace {

struct Sink {
  int rank = 0;
  int world = 1;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{nullptr, std::fclose};
};
Sink& sink() {
  static Sink instance;
  return instance;
}

void write_to(std::FILE* stream, const std::string& text) {
  // One call per line, so that lines of several ranks do not mix.
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

}  // namespace

void log_as_rank(int rank, int world) {
  sink().rank = rank;
  sink().world = world;
}

void log_to_file(const std::string& path) {
  if (sink().rank != 0) return;
  sink().file.reset(std::fopen(path.c_str(), "a"));
  if (!sink().file) log_warning("cannot append to " + path + "; lines go to standard output only");
}

void log_line(const std::string& line) {
  if (sink().rank != 0) return;
  write_to(stdout, line + "\n");
  if (sink().file) write_to(sink().file.get(), line + "\n");
}

void log_warning(const std::string& line) { log_line("warning: " + line); }

std::string error_text(const std::string& line) {
  const std::string who =
      sink().world > 1 ? concat("error (rank ", sink().rank, " of ", sink().world, "): ") : "error: ";
  return who + line + "\n";
}

void log_error(const std::string& line) {
  const std::string text = error_text(line);
  write_to(stderr, text);
  if (sink().file) write_to(sink().file.get(), text);
}

int log_descriptor() { return sink().file ? fileno(sink().file.get()) : -1; }

}  // namespace caravan::core
