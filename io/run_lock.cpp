// SPDX-License-Identifier: Apache-2.0
#include "io/run_lock.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "core/error.hpp"
#include "core/log.hpp"
#include "io/system_error.hpp"

namespace caravan::io {
namespace {

constexpr std::chrono::milliseconds settling{200};
constexpr std::int64_t longest_silence = 300;  // seconds
constexpr std::size_t lock_bytes = 1024;       // fixed, so that renewing overwrites in place

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

struct Holder {
  std::string text;  // the file's bytes
  std::string job;
  std::string restart;
  std::string host;
  std::int64_t pid = 0;
  std::int64_t heartbeat = 0;
};

Holder this_process() {
  return {.text = {},
          .job = environment("SLURM_JOB_ID"),
          .restart = environment("SLURM_RESTART_COUNT"),
          .host = host_name(),
          .pid = ::getpid(),
          .heartbeat = std::time(nullptr)};
}

std::string to_text(const Holder& holder) {
  const nlohmann::json document = {{"job", holder.job},
                                   {"restart", holder.restart},
                                   {"host", holder.host},
                                   {"pid", holder.pid},
                                   {"heartbeat", holder.heartbeat}};
  std::string text = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize(std::max(lock_bytes, text.size() + 1), ' ');
  text.back() = '\n';
  return text;
}

// Nothing when the file is gone. One that is being made and still empty has the file's own time as heartbeat.
std::optional<Holder> read_holder(const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ENOENT) return std::nullopt;
    throw_system_error("read", path, errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_system_error("read", path, errno);
  std::string text(4 * lock_bytes, '\0');
  const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
  if (size < 0) throw_system_error("read", path, errno);
  text.resize(static_cast<std::size_t>(size));
  Holder holder{.text = text, .job = {}, .restart = {}, .host = "unknown host", .heartbeat = status.st_mtime};
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (document.is_object()) {
    try {
      holder.job = document.value("job", holder.job);
      holder.restart = document.value("restart", holder.restart);
      holder.host = document.value("host", holder.host);
      holder.pid = document.value("pid", holder.pid);
      holder.heartbeat = document.value("heartbeat", holder.heartbeat);
    } catch (const nlohmann::json::exception&) {
      // A field of another type: what was read so far, with the file's time, is enough to decide.
    }
  }
  return holder;
}

// Whether a process of this host still runs. One that was killed stays in the process table until its parent asks for
// its status, which an orphan's may do late: it has ended all the same.
bool process_runs(std::int64_t pid) {
  if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return false;
  std::ifstream stat(core::concat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(stat, line)) return true;     // no such file system here, or not ours to read
  const std::size_t name_end = line.rfind(") ");  // "PID (name) state …", where the name may hold anything
  const char state = name_end != std::string::npos && name_end + 2 < line.size() ? line[name_end + 2] : '?';
  return state != 'Z' && state != 'X';
}

// Why the lock may be taken over at once; empty when its holder counts as alive.
std::string reason_to_take_over(const Holder& holder, const Holder& self) {
  if (!self.job.empty() && holder.job == self.job) return "the same job, started again";
  if (holder.host == self.host && holder.pid > 0) {
    // Here the process itself answers: one in a step of many minutes is silent and alive.
    return process_runs(holder.pid) ? "" : core::concat("process ", holder.pid, " on this host has ended");
  }
  const std::int64_t silence = self.heartbeat - holder.heartbeat;
  if (silence > longest_silence) return core::concat("its holder has been silent for ", silence, " s");
  return {};
}

// Moves the lock aside. Between reading it and now another job may have replaced it: then it goes back.
void remove_stale(const std::filesystem::path& path, const Holder& seen, const Holder& self) {
  const std::string aside = core::concat(path.string(), ".stale-", self.host, "-", self.pid);
  if (::rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    throw_system_error("take over", path, errno);
  }
  const std::optional<Holder> moved = read_holder(aside);
  if (moved && moved->text != seen.text) {
    // Its holder notices in refresh() if a third job was faster than this link.
    [[maybe_unused]] const int linked = ::link(aside.c_str(), path.c_str());
  }
  ::unlink(aside.c_str());
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& folder, std::chrono::seconds refresh_interval)
    : path_(folder / "lock"), refresh_interval_(refresh_interval) {
  constexpr int attempts = 20;  // each lost to another job that took the lock between two system calls
  for (int attempt = 0; attempt < attempts; ++attempt) {
    file_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_.is_open()) {
      try {
        write_heartbeat();
      } catch (...) {
        ::unlink(path_.c_str());  // the destructor of what was not made does not run
        throw;
      }
      // Another job that saw the same stale lock may move this one aside by mistake and put it back (remove_stale), or
      // fail to, when a third job was faster: look again when that is over.
      if (attempt > 0) std::this_thread::sleep_for(settling);
      if (is_ours()) return;
      continue;
    }
    if (errno != EEXIST) throw_system_error("create", path_, errno);
    const std::optional<Holder> holder = read_holder(path_);
    if (!holder) continue;
    const Holder self = this_process();
    const std::string reason = reason_to_take_over(*holder, self);
    if (reason.empty()) {
      core::bad_input("run folder ", folder.string(), " is in use by process ", holder->pid, " on ", holder->host,
                      holder->job.empty() ? ", outside of Slurm" : ", job " + holder->job,
                      "; end that run, choose another run.folder, or wait ", longest_silence / 60,
                      " minutes after it died");
    }
    core::log_line("taking over the run folder's lock: " + reason);
    remove_stale(path_, *holder, self);
  }
  core::bad_input("run folder ", folder.string(), ": several jobs are taking its lock at the same time; start one");
}

RunLock::~RunLock() {
  if (is_ours()) ::unlink(path_.c_str());
}

void RunLock::refresh() {
  if (std::chrono::steady_clock::now() - refreshed_ < refresh_interval_) return;
  if (!is_ours()) {
    const std::optional<Holder> holder = read_holder(path_);
    core::bad_input(
        "the lock ", path_.string(), " is no longer this run's: ",
        holder ? core::concat("process ", holder->pid, " on ", holder->host, ", job \"", holder->job, "\", holds it")
               : std::string("it was removed"),
        "; stopping, so that two runs do not mix");
  }
  write_heartbeat();
}

// Whether the name still leads to the file that this process made.
bool RunLock::is_ours() const {
  struct stat ours {};
  struct stat named {};
  return file_.is_open() && ::fstat(file_.get(), &ours) == 0 && ::stat(path_.c_str(), &named) == 0 &&
         ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

void RunLock::write_heartbeat() {
  const std::string text = to_text(this_process());
  const ssize_t written = ::pwrite(file_.get(), text.data(), text.size(), 0);
  if (written != static_cast<ssize_t>(text.size())) throw_system_error("write", path_, written < 0 ? errno : ENOSPC);
  refreshed_ = std::chrono::steady_clock::now();
}

}  // namespace caravan::io
