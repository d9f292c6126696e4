// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace caravan::run {

/// Who holds a run lock, as its file says; what the file does not say is empty or 0.
struct LockHolder {
  std::string text{};        // the file's bytes
  std::string cluster{};     // SLURM_CLUSTER_NAME
  std::string job{};         // as squeue calls it, "4711", "4711_3" of an array
  std::int64_t restart = 0;  // SLURM_RESTART_COUNT
  std::string host{};
  std::string machine{};       // since when it is up, and its numbering of processes: host names may be equal
  std::int64_t pid = 0;        // on that machine
  std::int64_t started = 0;    // when that process began, in the kernel's ticks
  std::int64_t heartbeat = 0;  // seconds since 1970
};

LockHolder this_process();

/// A fixed number of bytes unless a name is very long, so that renewing overwrites in place.
std::string to_text(const LockHolder& holder);

/// Nothing when the file is gone. One that is being made and still empty has the file's own time as heartbeat. Throws
/// (exit 2) when it cannot be read.
std::optional<LockHolder> read_lock_holder(const std::filesystem::path& file);

/// What to_text() wrote, or a lock's file holds; what is no JSON object says nothing.
LockHolder lock_holder_from(const std::string& text);

/// Whether both are the same process, whatever their heartbeats.
bool same_holder(const LockHolder& a, const LockHolder& b);

/// "process 12 on n07, job 4711".
std::string describe(const LockHolder& holder);

/// Whether that process numbers processes as this one does, so that process_runs() may be asked.
bool same_machine(const LockHolder& a, const LockHolder& b);
bool process_runs(const LockHolder& holder);

/// Whether job ids mean the same to both, as far as they say.
bool same_cluster(const LockHolder& a, const LockHolder& b);
/// Whether both are of the same job of Slurm; not outside of it.
bool same_job(const LockHolder& a, const LockHolder& b);

}  // namespace caravan::run
