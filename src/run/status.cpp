// SPDX-License-Identifier: Apache-2.0
#include "run/status.hpp"

#include <algorithm>
#include <ctime>

#include "core/json.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"
#include "io/json_lines.hpp"
#include "io/metrics_line.hpp"
#include "run/lock_verdict.hpp"

namespace caravan::run {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

Hold read_hold(const RunFolder& run) {
  Hold hold;
  hold.holder = read_lock_holder(run.lock());
  LockHolder onlooker = this_process();
  hold.now = onlooker.heartbeat;
  if (!hold.holder) return hold;
  onlooker.job.clear();  // inside of a job, too, it is asked what another job's start would meet
  const LockVerdict verdict = LockJudge().judge(*hold.holder, onlooker);
  hold.state = verdict.kind == LockVerdict::Kind::take_over ? Hold::State::expired : Hold::State::held;
  hold.why = verdict.why;
  return hold;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string text_of(const fs::path& file) { return fs::exists(file) ? first_line(io::read_file(file)) : std::string(); }

std::optional<std::int64_t> last_step(const fs::path& metrics) {
  const auto line = io::MetricsLine::from_json(core::parse_json_if_valid(io::last_line(metrics)));
  if (!line) return std::nullopt;
  return line->step;
}

bool runs(const Status& status) {
  if (status.hold.state != Hold::State::held || status.starts.empty() || status.starts.back().end) return false;
  const StartRecord& newest = status.starts.back();
  return status.hold.holder && status.hold.holder->pid == newest.pid && status.hold.holder->host == newest.host;
}

// When the newest start ended, as far as the lock tells it, or now if it runs.
std::optional<std::int64_t> end_of_newest(const Status& status) {
  if (status.starts.empty() || status.starts.back().end || !status.hold.holder) return std::nullopt;
  const LockHolder& holder = *status.hold.holder;
  if (holder.pid != status.starts.back().pid || holder.host != status.starts.back().host) return std::nullopt;
  return runs(status) ? status.hold.now : holder.heartbeat;
}

const char* name_of(Hold::State state) {
  switch (state) {
    case Hold::State::open: return "free";
    case Hold::State::held: return "held";
    case Hold::State::expired: return "expired";
  }
  return "";
}

template <typename Value>
ordered_json or_null(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

ordered_json text_or_null(const std::string& text) { return text.empty() ? ordered_json() : ordered_json(text); }

ordered_json json_of(const Hold& hold) {
  ordered_json lock{{"state", name_of(hold.state)}};
  if (!hold.holder) return lock;
  lock["why"] = hold.why;
  lock["host"] = hold.holder->host;
  lock["pid"] = hold.holder->pid;
  lock["job"] = text_or_null(hold.holder->job);
  lock["heartbeat"] = hold.holder->heartbeat;
  lock["silent_seconds"] = std::max<std::int64_t>(0, hold.now - hold.holder->heartbeat);
  return lock;
}

std::string of_planned(const Status& status, std::int64_t step) {
  return status.checkpoints.planned ? core::concat(step, " of ", *status.checkpoints.planned) : core::concat(step);
}

// Names and values, the values under each other.
class Lines {
 public:
  void add(const std::string& name, const std::string& value) {
    constexpr std::size_t width = 14;
    text_ += "  " + name + std::string(width - std::min(width - 1, name.size()), ' ') + value + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string describe(const Stage& stage) {
  std::string text = stage.done ? "done" : "not done";
  if (stage.done && !stage.made_by.empty()) text += ", by " + stage.made_by;
  if (!stage.problem.empty()) text += "; " + first_line(stage.problem);
  return text;
}

std::string describe(const Hold& hold) {
  if (!hold.holder) return "free: no job is writing";
  return core::concat(
      name_of(hold.state), ": ", run::describe(*hold.holder), ", last sign of life ",
      core::format_duration(static_cast<double>(std::max<std::int64_t>(0, hold.now - hold.holder->heartbeat))),
      " ago; ", hold.why);
}

}  // namespace

Status read_status(const RunFolder& run, const StageSettings& settings) {
  Status status{.folder = run};
  status.checkpoints = read_checkpoints(run, settings);
  status.stages = read_stages(run, settings, status.checkpoints);
  status.hold = read_hold(run);
  status.job_claim = text_of(run.job_claim());
  status.job_claim = status.job_claim.substr(0, status.job_claim.find(' '));
  status.starts = read_starts(run.starts());
  status.last_step = last_step(run.metrics());
  status.stopped_early = text_of(run.stopped_early());
  return status;
}

std::string why_stopped(const Status& status) {
  const bool unrecorded = status.hold.state == Hold::State::held && !runs(status);
  if (unrecorded) return "a start is reading its files";
  if (status.starts.empty()) return "no start of training is recorded";
  const StartRecord& newest = status.starts.back();
  if (newest.end) return first_line(newest.why);
  if (runs(status)) return "it runs";
  return "it was killed, or its node was lost: its end is not recorded";
}

double node_hours(const Status& status) { return node_hours(status.starts, end_of_newest(status)); }

ordered_json to_json(const Status& status) {
  ordered_json stages = ordered_json::object();
  for (const Stage& stage : status.stages) {
    stages[stage.name] = {{"done", stage.done},
                          {"result", text_or_null(stage.result.string())},
                          {"made_by", text_or_null(stage.made_by)},
                          {"settings", ordered_json(stage.settings)},
                          {"problem", text_or_null(stage.problem)}};
  }
  std::size_t open_ends = 0;
  for (const StartRecord& start : status.starts) open_ends += start.end ? 0 : 1;
  ordered_json newest;
  if (!status.starts.empty()) {
    const StartRecord& start = status.starts.back();
    newest = {{"begin", start.begin},
              {"end", or_null(start.end)},
              {"job", text_or_null(start.job)},
              {"ranks", start.ranks},
              {"nodes", start.nodes},
              {"exit_code", start.code ? ordered_json(static_cast<int>(*start.code)) : ordered_json()},
              {"program", start.program}};
  }
  const std::optional<std::int64_t>& good = status.checkpoints.newest_good;
  return {{"format", 1},
          {"run", fs::absolute(status.folder.path()).lexically_normal().string()},
          {"stages", stages},
          {"newest_good_step", or_null(good)},
          {"planned_steps", or_null(status.checkpoints.planned)},
          {"committed_steps", status.checkpoints.committed},
          {"damaged", status.checkpoints.damaged},
          {"last_step", or_null(status.last_step)},
          {"lock", json_of(status.hold)},
          {"job", text_or_null(status.job_claim)},
          {"starts", status.starts.size()},
          {"restarts", status.starts.empty() ? 0 : status.starts.size() - 1},
          {"node_hours", node_hours(status)},
          {"starts_without_end", open_ends - (runs(status) ? 1 : 0)},
          {"newest_start", newest},
          {"why_stopped", why_stopped(status)},
          {"stopped_early", !status.stopped_early.empty()}};
}

std::string to_text(const Status& status) {
  Lines lines;
  for (const Stage& stage : status.stages) lines.add(stage.name, describe(stage));
  const std::optional<std::int64_t>& good = status.checkpoints.newest_good;
  lines.add("checkpoint", good ? "step " + of_planned(status, *good) : std::string("none"));
  for (const std::string& damaged : status.checkpoints.damaged) lines.add("", damaged);
  if (status.last_step) lines.add("last step", of_planned(status, *status.last_step));
  lines.add("lock", describe(status.hold));
  if (!status.job_claim.empty()) lines.add("job", status.job_claim + ", also while it waits to run again");
  if (!status.starts.empty()) {
    const auto tenths = static_cast<std::int64_t>(node_hours(status) * 10 + 0.5);
    lines.add("starts", core::concat(status.starts.size(), ", of which ", status.starts.size() - 1, " restarts; ",
                                     tenths / 10, ".", tenths % 10, " node hours"));
  }
  lines.add("stopped", why_stopped(status));
  return "run: " + status.folder.path().string() + "\n" + lines.text();
}

std::string shell_line(const std::string& name, const std::string& value) {
  std::string line = name + "=" + value;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "\n";
}

std::string to_shell(const std::vector<Stage>& stages, const Checkpoints& checkpoints) {
  std::string text;
  for (const Stage& stage : stages) {
    text += shell_line(stage.name + "_done", stage.done ? "yes" : "no");
    if (!stage.problem.empty()) text += shell_line(stage.name + "_problem", stage.problem);
  }
  return text + shell_line("progress", std::to_string(progress_number(stages, checkpoints)));
}

}  // namespace caravan::run
