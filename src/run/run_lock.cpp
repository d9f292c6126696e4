// SPDX-License-Identifier: Apache-2.0
#include "run/run_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "core/awake_clock.hpp"
#include "core/background_thread.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "io/system_error.hpp"
#include "run/lock_verdict.hpp"
#include "run/run_folder.hpp"

namespace caravan::run {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds settling{200};

// Moves the lock aside. Between reading it and now its holder may have renewed it, or another job replaced it: then it
// goes back.
void remove_stale(const std::filesystem::path& path, const LockHolder& seen, const LockHolder& self) {
  const std::string aside = core::concat(path.string(), ".stale-", self.host, "-", self.pid);
  if (::rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    io::throw_system_error("take over", path, errno);
  }
  const std::optional<LockHolder> moved = read_lock_holder(aside);
  if (moved && moved->text != seen.text) {
    // Its holder notices if a third job was faster than this link.
    [[maybe_unused]] const int linked = ::link(aside.c_str(), path.c_str());
  }
  ::unlink(aside.c_str());
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& folder, const RunLockTimes& times)
    : path_(folder / lock_name), interval_(times.heartbeat) {
  take(folder, times);
  try {
    heart_ = core::start_attendant("caravan-lock", [this](const std::stop_token& stop) { keep_alive(stop); });
  } catch (...) {
    ::unlink(path_.c_str());  // the destructor of what was not made does not run
    throw;
  }
}

void RunLock::take(const std::filesystem::path& folder, const RunLockTimes& times) {
  constexpr int attempts = 20;  // each lost to another job that took the lock between two system calls
  const auto begin = Clock::now();
  bool waited = false;
  LockJudge judge;
  for (int attempt = 0; attempt < attempts;) {
    file_ = io::FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_.is_open()) {
      try {
        write_heartbeat();
      } catch (...) {
        ::unlink(path_.c_str());
        throw;
      }
      // Another job that saw the same stale lock may move this one aside by mistake and put it back (remove_stale), or
      // fail to, when a third job was faster: look again when that is over.
      if (attempt > 0) std::this_thread::sleep_for(settling);
      lost_ = false;
      if (look() == Standing::ours) return;
      ++attempt;
      continue;
    }
    if (errno != EEXIST) io::throw_system_error("create", path_, errno);
    const std::optional<LockHolder> holder = read_lock_holder(path_);
    if (!holder) {
      ++attempt;
      continue;
    }
    const LockHolder self = this_process();
    const LockVerdict verdict = judge.judge(*holder, self);
    if (verdict.kind == LockVerdict::Kind::wait && Clock::now() - begin < times.longest_wait) {
      if (!std::exchange(waited, true)) {
        core::log(folder.string(), " is in use by ", describe(*holder), " (", verdict.why, "); waiting up to ",
                  std::chrono::ceil<std::chrono::seconds>(times.longest_wait).count(), " s for its end");
      }
      core::StopRequest::check();
      std::this_thread::sleep_for(std::min<Clock::duration>(times.longest_wait / 10, std::chrono::seconds(1)));
      continue;
    }
    if (verdict.kind != LockVerdict::Kind::take_over) {
      const std::string left_over = same_machine(*holder, self)
                                        ? ""
                                        : core::concat(". If that process is gone for good, remove ", path_.string());
      // A former start of our own job that does not die: another allocation has another node, or finds it dead.
      const bool stays = verdict.kind == LockVerdict::Kind::wait && same_job(*holder, self);
      throw core::Error(stays ? core::ExitCode::peer_lost : core::ExitCode::bad_input,
                        core::concat(folder.string(), " is in use by ", describe(*holder), ": ", verdict.why, "; ",
                                     verdict.advice, ", or choose another folder", left_over));
    }
    core::log("taking over the lock of ", folder.string(), ": ", verdict.why);
    former_ = holder;
    remove_stale(path_, *holder, self);
    ++attempt;
  }
  core::bad_input(folder.string(), ": several jobs are taking its lock at the same time; start one");
}

RunLock::~RunLock() {
  heart_.request_stop();
  if (heart_.joinable()) heart_.join();
  if (look() == Standing::ours) ::unlink(path_.c_str());
}

void RunLock::keep_alive(const std::stop_token& stop) {
  bool warned = false;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, stop, interval_, [&] { return stop.stop_requested(); })) {
    if (look() == Standing::lost) continue;  // it may be put back
    try {
      write_heartbeat();
    } catch (const core::Error& error) {
      // The folder is ours until somebody takes it, and the next time may be better.
      if (std::exchange(warned, true)) continue;
      core::log_warning(core::concat("the heartbeat of this run's lock fails: ", error.what(),
                                     "; where it is not seen for minutes, another start may take the folder over"));
    }
  }
}

void RunLock::refresh() {
  const std::chrono::duration<double> since(core::elapsed_seconds() - looked_);
  const bool long_ago = since > 2 * interval_ + settling;
  if ((lost_ || long_ago) && look() == Standing::lost) throw_lost();
}

void RunLock::require_ours() {
  const Standing standing = look();
  if (standing == Standing::unclear) io::throw_system_error("read", path_, errno);
  if (standing == Standing::lost) throw_lost();
}

void RunLock::throw_lost() const {
  const std::optional<LockHolder> holder = read_lock_holder(path_);
  throw core::Error(core::ExitCode::peer_lost,
                    core::concat("the lock ", path_.string(), " is no longer this run's: ",
                                 holder ? describe(*holder) + ", holds it" : std::string("it was removed"),
                                 "; stopping, so that two runs do not mix"));
}

// Whether the name still leads to the file that this process made. Opened, not only asked for: then a network file
// system does not answer from its memory.
RunLock::Standing RunLock::look_once() const {
  const io::FileDescriptor named(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  // ESTALE: the server was changed over, or the name has just gone; then it is not there at the next look.
  if (!named.is_open()) return errno == ENOENT ? Standing::lost : Standing::unclear;
  struct stat ours {};
  struct stat there {};
  if (::fstat(file_.get(), &ours) != 0 || ::fstat(named.get(), &there) != 0) {
    return errno == ESTALE ? Standing::lost : Standing::unclear;
  }
  return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev ? Standing::ours : Standing::lost;
}

RunLock::Standing RunLock::look() {
  Standing standing = look_once();
  if (standing == Standing::lost) {
    // Another job may have moved it aside and be about to put it back: remove_stale().
    std::this_thread::sleep_for(settling);
    standing = look_once();
  }
  if (standing != Standing::unclear) lost_ = standing == Standing::lost;
  if (standing == Standing::ours) looked_ = core::elapsed_seconds();
  return standing;
}

void RunLock::write_heartbeat() {
  const std::string text = to_text(this_process());
  const ssize_t written = ::pwrite(file_.get(), text.data(), text.size(), 0);
  if (written != static_cast<ssize_t>(text.size()))
    io::throw_system_error("write", path_, written < 0 ? errno : ENOSPC);
  // Else a network file system would show it to other hosts only half a minute later.
  if (::fdatasync(file_.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    io::throw_system_error("write", path_, errno);
}

}  // namespace caravan::run
