// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "core/awake_clock.hpp"
#include "core/background_thread.hpp"
#include "core/line_writer.hpp"

namespace caravan::core {
namespace {

struct Sink {
  int rank = 0;
  int world = 1;
  std::mutex mutex;  // of `file`, which threads that write at that moment keep open
  std::shared_ptr<std::FILE> file;
};
// Never destroyed: threads that write may outlive the static objects.
Sink& sink() {
  static auto* const instance = new Sink;
  return *instance;
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

std::string from_this_rank(const char* kind, const std::string& line) {
  const std::string who = sink().world > 1 ? concat(" (rank ", sink().rank, " of ", sink().world, ")") : "";
  return kind + who + ": " + line + "\n";
}

constexpr double longest_wait = 2;  // seconds, of a line or of the end of the process, for who reads the output

LineWriter& writer(std::FILE* stream) {
  const auto note = [](std::int64_t lost) {
    return warning_text(concat(lost, lost == 1 ? " line is" : " lines are", " missing here, since nobody read them",
                               log_file() ? "; log.txt in the run folder has all lines" : ""));
  };
  static auto* const output = new LineWriter(stdout, note);
  static auto* const error = new LineWriter(stderr, note);
  static const int at_exit = std::atexit([] {
    const AwakeStopwatch stopwatch;
    output->flush(longest_wait);
    error->flush(longest_wait - stopwatch.seconds());
  });
  static_cast<void>(at_exit);
  return stream == stdout ? *output : *error;
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
  writer(stdout).write(line + "\n", longest_wait);
  if (const auto file = log_file()) write_to(file.get(), line + "\n");
}

void log_warning(const std::string& line) { log_line("warning: " + line); }

std::string error_text(const std::string& line) { return from_this_rank("error", line); }

std::string warning_text(const std::string& line) { return from_this_rank("warning", line); }

void log_error(const std::string& line) {
  const std::string text = error_text(line);
  writer(stderr).write(text, longest_wait, LineWriter::Wait::always);  // it may be the last one
  if (const auto file = log_file()) write_to(file.get(), text);
}

std::future<void> write_apart(const std::string& text) {
  std::promise<void> written;
  std::future<void> done = written.get_future();
  const bool started = run_apart([text, file = log_file(), written = std::move(written)]() mutable {
    write_all(STDERR_FILENO, text);
    if (file) write_all(fileno(file.get()), text);
    written.set_value();
  });
  return started ? std::move(done) : std::future<void>();
}

void write_to_stderr(const std::string& text) { write_all(STDERR_FILENO, text); }

}  // namespace caravan::core
