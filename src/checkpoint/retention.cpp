// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "checkpoint/manifest.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"

namespace caravan::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "step-";

// The step of a checkpoint's folder name; nothing for other names.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stopped, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || stopped != end || step < 0) return std::nullopt;
  return step;
}

// All steps that have a folder, ascending; `committed`: only those with a manifest.
std::vector<std::int64_t> steps_in(const fs::path& checkpoints, bool committed) {
  std::vector<std::int64_t> steps;
  if (!fs::is_directory(checkpoints)) return steps;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const auto step = step_of(entry.path().filename().string());
    if (!step || entry.path() != step_folder(checkpoints, *step)) continue;
    if (!committed || fs::exists(entry.path() / "manifest.json")) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

// The manifest goes first: a deletion that is cut short leaves nothing that counts as a checkpoint.
void remove_checkpoint(const fs::path& folder) {
  if (fs::exists(folder / "manifest.json")) {
    fs::rename(folder / "manifest.json", folder / "manifest.json.removed");
    io::fsync_folder(folder);
  }
  fs::remove_all(folder);
}

}  // namespace

fs::path step_folder(const fs::path& checkpoints, std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return checkpoints / name;
}

std::vector<std::int64_t> committed_steps(const fs::path& checkpoints) { return steps_in(checkpoints, true); }

std::optional<fs::path> newest_good(const fs::path& checkpoints, std::vector<std::string>* passed_over,
                                    std::int64_t below) {
  const std::vector<std::int64_t> steps = committed_steps(checkpoints);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (*step >= below) continue;
    const fs::path folder = step_folder(checkpoints, *step);
    std::vector<std::string> problems;
    try {
      problems = shard_problems(folder, Manifest::read(folder));
    } catch (const core::Error& error) {
      problems.emplace_back(error.what());
    }
    if (problems.empty()) return folder;
    const std::string reason =
        "checkpoint " + folder.filename().string() + " is passed over: " + core::join(problems, " and ");
    if (passed_over != nullptr) {
      passed_over->push_back(reason);
    } else {
      core::log_warning(reason);
    }
  }
  return std::nullopt;
}

void keep_newest(const fs::path& checkpoints, std::int64_t keep) {
  std::vector<std::int64_t> kept = committed_steps(checkpoints);
  if (kept.empty()) return;
  const std::int64_t newest = kept.back();
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(keep, 1));
  if (kept.size() > count) kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(count));
  for (const std::int64_t step : steps_in(checkpoints, false)) {
    if (step == 0 || step >= newest || std::binary_search(kept.begin(), kept.end(), step)) continue;
    try {
      remove_checkpoint(step_folder(checkpoints, step));
    } catch (const std::exception& error) {  // the save was good: the job goes on
      core::log_warning(core::concat("an old checkpoint stays: ", error.what()));
    }
  }
}

}  // namespace caravan::checkpoint
