// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <cstdio>
#include <memory>
#include <mutex>

namespace caravan::core {
namespace {

struct Sink {
  int rank = 0;
  int world = 1;
  std::mutex mutex;  // of `file`, which threads that write at that moment keep open
  std::shared_ptr<std::FILE> file;
};
Sink& sink() {
  static Sink instance;
  return instance;
}
std::shared_ptr<std::FILE> log_file() {
  const std::lock_guard guard(sink().mutex);
  return sink().file;
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
  std::FILE* opened = std::fopen(path.c_str(), "ae");
  {
    const std::lock_guard guard(sink().mutex);
    sink().file = opened != nullptr ? std::shared_ptr<std::FILE>(opened, std::fclose) : nullptr;
  }
  if (opened == nullptr) log_warning("cannot append to " + path + "; lines go to standard output only");
}

void log_line(const std::string& line) {
  if (sink().rank != 0) return;
  write_to(stdout, line + "\n");
  if (const auto file = log_file()) write_to(file.get(), line + "\n");
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
  if (const auto file = log_file()) write_to(file.get(), text);
}

int log_descriptor() {
  const auto file = log_file();
  return file ? fileno(file.get()) : -1;
}

}  // namespace caravan::core
