// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <optional>

#include "checkpoint/manifest.hpp"
#include "checkpoint/reader.hpp"
#include "checkpoint/retention.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "io/json_lines.hpp"
#include "io/metrics_line.hpp"
#include "report/reports.hpp"
#include "report/settings.hpp"
#include "run/lock_holder.hpp"
#include "run/run_folder.hpp"

namespace caravan::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string short_text(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.5g", value);
  return text.data();
}

void write_metrics(const fs::path& folder, Page& page) {
  const fs::path file = run::RunFolder(folder).metrics();
  if (!fs::exists(file)) return page.line("last step", "none: training has not begun");
  const std::string line = io::last_line(file);
  if (line.empty()) return page.line("last step", "none yet");
  const auto metrics = io::MetricsLine::from_json(core::parse_json_if_valid(line));
  if (!metrics) return page.problem(file.string() + ": its last line is no metrics of a step: " + line);
  std::vector<std::string> parts;
  const auto part = [&](const char* name, const std::optional<double>& value) {
    if (value) parts.push_back(std::string(name) + " " + short_text(*value));
  };
  part("loss", metrics->loss);
  part("held_out_loss", metrics->held_out_loss);
  part("lr", metrics->lr);
  part("grad_norm", metrics->grad_norm);
  part("tokens_per_second", metrics->tokens_per_second);
  parts.push_back(core::concat("restart ", metrics->restart));
  page.line("last step", core::concat(metrics->step, ": ", core::join(parts, ", ")));
}

void write_lock(const run::RunFolder& folder, Page& page) {
  const std::optional<run::LockHolder> holder = run::read_lock_holder(folder.lock());
  if (!holder) return page.line("lock", "free: no job is writing");
  if (holder->pid == 0) return page.line("lock", "held, but its file does not say by whom (it may be being written)");
  const std::int64_t silence = std::time(nullptr) - holder->heartbeat;
  page.line("lock", core::concat("held by ", run::describe(*holder), ", last sign of life ",
                                 core::format_duration(static_cast<double>(silence)), " ago"));
}

std::vector<std::string> other_folders(const fs::path& checkpoints) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-")) continue;
    if (name.find(".set-aside") != std::string::npos) {
      names.push_back(name + " (set aside: nothing reads it)");
    } else if (!fs::exists(entry.path() / "manifest.json")) {
      names.push_back(name + " (a save that was not finished)");
    }
  }
  return names;
}

// Of the checkpoints beside the newest, which has a report of its own with its store.
void verify_others(const fs::path& checkpoints, const std::vector<std::int64_t>& steps,
                   const std::optional<fs::path>& newest, Page& page) {
  std::vector<fs::path> reported;
  if (newest) {
    reported.push_back(*newest);
    if (const auto store = checkpoint::Manifest::read(*newest).store) reported.push_back(*newest / store->folder);
  }
  for (const std::int64_t step : steps) {
    const fs::path folder = checkpoint::step_folder(checkpoints, step);
    if (std::any_of(reported.begin(), reported.end(),
                    [&](const fs::path& other) { return other.lexically_normal() == folder.lexically_normal(); })) {
      continue;
    }
    std::vector<std::string> problems;
    try {
      problems = checkpoint::CheckpointReader(folder).verify();
    } catch (const core::Error& error) {
      if (error.code() != core::ExitCode::bad_input) throw;
      problems.emplace_back(error.what());
    }
    for (const std::string& problem : problems) page.problem(problem);
    if (problems.empty()) page.checked(folder.filename().string() + ": every byte of every tensor, by its checksum");
  }
}

void write_config_file(const fs::path& file, const std::optional<fs::path>& newest, const Request& request,
                       Page& page) {
  try {
    const json settings = request.read_settings(file.string());
    // Usually those of the newest checkpoint, which has them in its report.
    if (newest && checkpoint::Manifest::read(*newest).state.value("config", json()) == settings) return;
    write_settings("settings in config.ini", settings, request.default_settings, page);
  } catch (const core::Error& error) {
    page.problem(error.what());
  }
}

}  // namespace

void report_run(const fs::path& folder, const Request& request, Page& page) {
  page.title("run folder", folder.string());
  const fs::path checkpoints = run::RunFolder(folder).checkpoints();
  const std::vector<std::int64_t> steps = checkpoint::committed_steps(checkpoints);
  page.line("committed", steps.empty() ? "no step" : "steps " + core::join_numbers(steps, " and "));
  if (fs::is_directory(checkpoints)) {
    for (const std::string& other : other_folders(checkpoints)) page.line("also there", other);
  }
  std::vector<checkpoint::PassedOver> passed_over;
  std::optional<fs::path> newest;
  try {
    newest = checkpoint::newest_good(checkpoints, &passed_over);
  } catch (const checkpoint::NewerVersion& error) {
    page.problem(error.what());
  }
  page.line("newest good", newest ? newest->filename().string() : "none");
  write_metrics(folder, page);
  write_lock(run::RunFolder(folder), page);
  if (request.verify) {
    verify_others(checkpoints, steps, newest, page);
  } else {
    for (const checkpoint::PassedOver& damaged : passed_over) page.problem(damaged.reason);
  }
  const fs::path config = run::RunFolder(folder).config();
  if (fs::exists(config)) write_config_file(config, newest, request, page);
  if (newest) report_checkpoint(*newest, request, page);
}

}  // namespace caravan::report
