// SPDX-License-Identifier: Apache-2.0
#include "run/lock_holder.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "core/error.hpp"
#include "core/host_name.hpp"
#include "core/json.hpp"
#include "io/file_descriptor.hpp"
#include "io/system_error.hpp"

namespace caravan::run {
namespace {

constexpr std::size_t lock_bytes = 1024;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// SLURM_JOB_ID of one task of a job array is the number of the whole array, by which squeue answers for all tasks.
std::string this_job() {
  const std::string array = environment("SLURM_ARRAY_JOB_ID");
  return array.empty() ? environment("SLURM_JOB_ID") : array + "_" + environment("SLURM_ARRAY_TASK_ID");
}

std::string this_machine() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::error_code unknown;
  const std::string numbering = std::filesystem::read_symlink("/proc/self/ns/pid", unknown).string();
  return boot.empty() || numbering.empty() ? "" : boot + " " + numbering;
}

struct ProcessState {
  char state = '?';
  std::int64_t started = 0;
};

// Nothing where there is no such file system, or it is not ours to read.
std::optional<ProcessState> state_of(std::int64_t pid) {
  std::ifstream stat(core::concat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(stat, line)) return std::nullopt;
  const std::size_t name_end = line.rfind(") ");  // "PID (name) state …", where the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 2));
  ProcessState found;
  fields >> found.state;
  constexpr int fields_between = 18;  // the start is the 22nd of all, the state the third
  std::string skipped;
  for (int i = 0; i < fields_between; ++i) fields >> skipped;
  if (!(fields >> found.started)) found.started = 0;
  return found;
}

}  // namespace

LockHolder this_process() {
  const std::optional<ProcessState> state = state_of(::getpid());
  return {.text = {},
          .cluster = environment("SLURM_CLUSTER_NAME"),
          .job = this_job(),
          .restart = std::strtoll(environment("SLURM_RESTART_COUNT").c_str(), nullptr, 10),
          .host = core::host_name(),
          .machine = this_machine(),
          .pid = ::getpid(),
          .started = state ? state->started : 0,
          .heartbeat = std::time(nullptr)};
}

std::string to_text(const LockHolder& holder) {
  const nlohmann::json document = {
      {"cluster", holder.cluster}, {"job", holder.job}, {"restart", holder.restart}, {"host", holder.host},
      {"machine", holder.machine}, {"pid", holder.pid}, {"started", holder.started}, {"heartbeat", holder.heartbeat}};
  std::string text = core::json_text(document);
  text.resize(std::max(lock_bytes, text.size() + 1), ' ');
  text.back() = '\n';
  return text;
}

std::optional<LockHolder> read_lock_holder(const std::filesystem::path& path) {
  const io::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ENOENT) return std::nullopt;
    io::throw_system_error("read", path, errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) io::throw_system_error("read", path, errno);
  std::string text(4 * lock_bytes, '\0');
  const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
  if (size < 0) io::throw_system_error("read", path, errno);
  text.resize(static_cast<std::size_t>(size));
  LockHolder holder = lock_holder_from(text);
  if (holder.heartbeat == 0) holder.heartbeat = status.st_mtime;
  return holder;
}

LockHolder lock_holder_from(const std::string& text) {
  LockHolder holder;
  holder.text = text;
  holder.host = "unknown host";
  const nlohmann::json document = core::parse_json_if_valid(text);
  if (!document.is_object()) return holder;
  // A field of another type, as other versions may write, is one that is not there.
  const auto take = [&](const char* name, auto& field, bool (nlohmann::json::*is_right)() const) {
    const auto found = document.find(name);
    if (found != document.end() && ((*found).*is_right)()) found->get_to(field);
  };
  const auto text_of = [&](const char* name, std::string& field) { take(name, field, &nlohmann::json::is_string); };
  const auto number_of = [&](const char* name, std::int64_t& field) {
    take(name, field, &nlohmann::json::is_number_integer);
  };
  text_of("cluster", holder.cluster);
  text_of("job", holder.job);
  number_of("restart", holder.restart);
  text_of("host", holder.host);
  text_of("machine", holder.machine);
  number_of("pid", holder.pid);
  number_of("started", holder.started);
  number_of("heartbeat", holder.heartbeat);
  return holder;
}

bool same_holder(const LockHolder& a, const LockHolder& b) {
  const auto facts = [](const LockHolder& of) {
    return std::tie(of.cluster, of.job, of.restart, of.host, of.machine, of.pid, of.started);
  };
  return facts(a) == facts(b);
}

std::string describe(const LockHolder& holder) {
  return core::concat("process ", holder.pid, " on ", holder.host,
                      holder.job.empty() ? ", outside of Slurm" : ", job " + holder.job);
}

bool same_machine(const LockHolder& a, const LockHolder& b) {
  const auto is_known = [](std::int64_t pid) { return pid > 0 && pid <= std::numeric_limits<pid_t>::max(); };
  if (a.host != b.host || !is_known(a.pid) || !is_known(b.pid)) return false;
  return a.machine.empty() || b.machine.empty() || a.machine == b.machine;
}

// One that was killed stays in the process table until its parent asks for its status, which an orphan's may do late:
// it has ended all the same. So it has when its number is another process's now.
bool process_runs(const LockHolder& holder) {
  if (::kill(static_cast<pid_t>(holder.pid), 0) != 0 && errno == ESRCH) return false;
  const std::optional<ProcessState> found = state_of(holder.pid);
  if (!found) return true;
  if (found->state == 'Z' || found->state == 'X') return false;
  return holder.started == 0 || found->started == 0 || found->started == holder.started;
}

bool same_cluster(const LockHolder& a, const LockHolder& b) {
  return a.cluster.empty() || b.cluster.empty() || a.cluster == b.cluster;
}

bool same_job(const LockHolder& a, const LockHolder& b) {
  return !a.job.empty() && a.job == b.job && same_cluster(a, b);
}

}  // namespace caravan::run
