// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "checkpoint/manifest.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
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
void remove_checkpoint(const fs::path& folder, const std::function<void()>& moved) {
  if (fs::exists(folder / "manifest.json")) {
    fs::rename(folder / "manifest.json", folder / "manifest.json.removed");
    io::fsync_folder(folder);
  }
  std::vector<fs::path> files;  // first: what goes while a folder is read may hide the next one
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  for (const fs::path& file : files) {
    fs::remove_all(file);
    if (moved) moved();
  }
  fs::remove(folder);
}

// Of a checkpoint that is damaged, none: whoever resumes passes it over, too.
std::optional<HeldOut> held_out_loss_of(const fs::path& folder) {
  try {
    const nlohmann::json state = Manifest::read(folder).state;
    const nlohmann::json loss = state.value(held_out_loss_field, nlohmann::json());
    if (loss.is_number())
      return HeldOut{loss.get<double>(), core::json_text(state.value(held_out_set_field, nlohmann::json()))};
  } catch (const core::Error& error) {
    if (!is_damage(error)) throw;
    core::log_warning(error.what());
  }
  return std::nullopt;
}

}  // namespace

fs::path step_folder(const fs::path& checkpoints, std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return checkpoints / name;
}

std::vector<std::int64_t> committed_steps(const fs::path& checkpoints) { return steps_in(checkpoints, true); }

std::optional<fs::path> newest_good(const fs::path& checkpoints, std::vector<PassedOver>* passed_over,
                                    std::int64_t below) {
  const std::vector<std::int64_t> steps = committed_steps(checkpoints);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (*step >= below) continue;
    const fs::path folder = step_folder(checkpoints, *step);
    std::vector<std::string> problems;
    PassedOver damaged{.step = *step, .reason = {}};
    try {
      const Manifest manifest = Manifest::read(folder);
      damaged.store = manifest.store;
      problems = shard_problems(folder, manifest);
    } catch (const core::SystemError& error) {
      if (!is_damage(error)) throw not_damaged(error, folder, *step);
      problems.emplace_back(error.what());
    } catch (const core::Error& error) {
      if (!is_damage(error)) throw;
      problems.emplace_back(error.what());
    }
    if (problems.empty()) return folder;
    damaged.reason = "checkpoint " + folder.filename().string() + " is passed over: " + core::join(problems, " and ");
    if (passed_over != nullptr) {
      passed_over->push_back(std::move(damaged));
    } else {
      core::log_warning(damaged.reason);
    }
  }
  return std::nullopt;
}

std::optional<std::string> set_aside(const fs::path& checkpoints, std::int64_t step) {
  const fs::path folder = step_folder(checkpoints, step);
  if (!fs::exists(folder / "manifest.json")) return std::nullopt;
  fs::path aside = folder.string() + ".set-aside";
  for (int n = 2; fs::exists(aside); ++n) aside = core::concat(folder.string(), ".set-aside-", n);
  fs::rename(folder, aside);
  io::fsync_folder(checkpoints);
  return aside.filename().string();
}

core::SystemError not_damaged(const core::SystemError& refused, const fs::path& folder, std::int64_t step) {
  if (step == 0) return refused;
  return {refused.system_error(),
          core::concat(refused.what(), "; ", folder.string(),
                       " was not taken for damaged, and nothing was set aside; if it stays unreadable, move that "
                       "folder away: the next start then goes on from the checkpoint before it")};
}

std::set<std::int64_t> Retention::best_of(const std::vector<std::int64_t>& steps) {
  std::map<std::string, std::int64_t> best;  // of each set: that one is worse than a former one's, nobody knows
  for (const std::int64_t step : steps) {
    if (step == 0) continue;  // not trained
    if (!losses_.contains(step)) losses_[step] = held_out_loss_of(step_folder(checkpoints_, step));
    const std::optional<HeldOut>& held_out = losses_[step];
    if (!held_out) continue;
    const auto [at, first] = best.try_emplace(held_out->set, step);
    if (!first && held_out->loss <= losses_[at->second]->loss) at->second = step;
  }
  std::set<std::int64_t> kept;
  for (const auto& [set, step] : best) kept.insert(step);
  return kept;
}

void Retention::apply(const std::function<void()>& moved) {
  try {
    delete_old(moved);
  } catch (const std::exception& error) {  // the save was good: the job goes on
    core::log_warning(core::concat("older checkpoints stay until the next save: ", error.what()));
  }
}

void Retention::delete_old(const std::function<void()>& moved) {
  const std::vector<std::int64_t> committed = committed_steps(checkpoints_);
  if (committed.empty()) return;
  const auto count = std::min(committed.size(), static_cast<std::size_t>(std::max<std::int64_t>(keep_.newest, 1)));
  const std::int64_t first_of_newest = committed[committed.size() - count];
  const std::set<std::int64_t> best = keep_.best ? best_of(committed) : std::set<std::int64_t>{};
  for (const std::int64_t step : steps_in(checkpoints_, false)) {
    const bool whole = std::binary_search(committed.begin(), committed.end(), step);
    const bool wanted = step >= first_of_newest || best.contains(step) || (keep_.every > 0 && step % keep_.every == 0);
    if (step == 0 || step >= committed.back() || (whole && wanted)) continue;
    try {
      remove_checkpoint(step_folder(checkpoints_, step), moved);
    } catch (const std::exception& error) {
      core::log_warning(core::concat("an old checkpoint stays: ", error.what()));
    }
  }
}

}  // namespace caravan::checkpoint
