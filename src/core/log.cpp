// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <mutex>

#include "core/background_thread.hpp"

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

void write_all(int descriptor, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(descriptor, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

std::string from_this_rank(const char* kind, const std::string& line) {
  const std::string who = sink().world > 1 ? concat(" (rank ", sink().rank, " of ", sink().world, ")") : "";
  return kind + who + ": " + line + "\n";
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

std::string error_text(const std::string& line) { return from_this_rank("error", line); }

std::string warning_text(const std::string& line) { return from_this_rank("warning", line); }

void log_error(const std::string& line) {
  const std::string text = error_text(line);
  write_to(stderr, text);
  if (const auto file = log_file()) write_to(file.get(), text);
}

std::future<void> write_apart(const std::string& text) {
  std::promise<void> told;
  std::future<void> done = told.get_future();
  const bool started = run_apart([text, file = log_file(), told = std::move(told)]() mutable {
    write_all(STDERR_FILENO, text);
    if (file) write_all(fileno(file.get()), text);
    told.set_value();
  });
  return started ? std::move(done) : std::future<void>();
}

void write_to_stderr(const std::string& text) { write_all(STDERR_FILENO, text); }

}  // namespace caravan::core
