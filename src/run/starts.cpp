// SPDX-License-Identifier: Apache-2.0
#include "run/starts.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "io/json_lines.hpp"

namespace caravan::run {
namespace {

using nlohmann::json;

std::string text_in(const json& line, const char* field) {
  return line.contains(field) && line[field].is_string() ? line[field].get<std::string>() : std::string();
}

std::optional<std::int64_t> number_in(const json& line, const char* field) {
  if (!line.contains(field) || !line[field].is_number_integer()) return std::nullopt;
  return line[field].get<std::int64_t>();
}

void append(const std::filesystem::path& file, const std::vector<json>& lines) {
  try {
    io::JsonLines out(file);
    for (const json& line : lines) out.append(line);
  } catch (const std::exception& error) {
    core::log_warning(core::concat("this start is not recorded for caravan status: ", error.what()));
  }
}

}  // namespace

std::vector<StartRecord> read_starts(const std::filesystem::path& file) {
  std::vector<StartRecord> starts;
  io::read_json_lines(file, [&](std::size_t, const json& line) {
    if (!line.is_object()) return true;
    const std::string event = text_in(line, "event");
    const std::optional<std::int64_t> time = number_in(line, "time");
    if (event == "begin" && time) {
      starts.push_back({.begin = *time,
                        .ranks = number_in(line, "ranks").value_or(0),
                        .nodes = number_in(line, "nodes").value_or(0),
                        .job = text_in(line, "job"),
                        .host = text_in(line, "host"),
                        .program = text_in(line, "program"),
                        .pid = number_in(line, "pid").value_or(0)});
    } else if (!starts.empty() && !starts.back().end && time && (event == "end" || event == "lost")) {
      StartRecord& start = starts.back();
      start.end = std::max(*time, start.begin);
      start.why = text_in(line, "why");
      start.step = number_in(line, "step");
      if (const auto code = number_in(line, "code")) start.code = static_cast<core::ExitCode>(*code);
    }
    return true;
  });
  return starts;
}

double node_hours(const std::vector<StartRecord>& starts, std::optional<std::int64_t> now) {
  constexpr double hour = 3600;
  double hours = 0;
  for (const StartRecord& start : starts) {
    std::optional<std::int64_t> end = start.end;
    if (!end && &start == &starts.back()) end = now;
    if (end)
      hours +=
          static_cast<double>(start.nodes) * static_cast<double>(std::max<std::int64_t>(0, *end - start.begin)) / hour;
  }
  return hours;
}

StartLog::StartLog(std::filesystem::path file, std::int64_t began, const std::optional<LockHolder>& former, int ranks,
                   int nodes)
    : file_(std::move(file)) {
  const LockHolder self = this_process();
  std::vector<json> lines;
  // Only of the start that the newest line is of: a holder that was lost before its log began has no line.
  const std::vector<StartRecord> earlier = read_starts(file_);
  const bool recorded = former && !earlier.empty() && !earlier.back().end && earlier.back().pid == former->pid &&
                        earlier.back().host == former->host;
  if (recorded) {
    lines.push_back({{"event", "lost"},
                     {"time", former->heartbeat},
                     {"why", "it was killed, or its node was lost: " + describe(*former)}});
  }
  lines.push_back({{"event", "begin"},
                   {"time", began},
                   {"ranks", ranks},
                   {"nodes", nodes},
                   {"job", self.job},
                   {"slurm_restart", self.restart},
                   {"host", self.host},
                   {"pid", self.pid},
                   {"program", core::build_facts_text()}});
  append(file_, lines);
}

void StartLog::end(core::ExitCode code, const std::string& why, std::optional<std::int64_t> step) {
  if (std::exchange(ended_, true)) return;
  json line{{"event", "end"}, {"time", std::time(nullptr)}, {"code", static_cast<int>(code)}, {"why", why}};
  if (step) line["step"] = *step;
  append(file_, {line});
}

}  // namespace caravan::run
