// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "io/metrics_line.hpp"

namespace caravan::train {

Metrics::Metrics(std::filesystem::path file, std::int64_t resumed_at_most) : path_(std::move(file)) {
  const auto field = [&](std::size_t number, const nlohmann::json& line, const char* name) {
    if (!line.is_object() || !line.contains(name) || !line[name].is_number_integer()) {
      core::bad_input(path_.string(), ":", number, ": a line without a whole number \"", name,
                      "\": ", core::json_text(line), "; move the file away, or mend the line");
    }
    return line[name].get<std::int64_t>();
  };
  io::read_json_lines(path_, [&](std::size_t number, const nlohmann::json& line) {
    if (line.is_discarded()) {
      if (!damaged_) damaged_ = {number, newest_};
      return true;
    }
    newest_ = std::max(newest_, field(number, line, "step"));
    restart_ = std::max(restart_, field(number, line, "restart") + 1);
    return true;
  });
  require_sound(resumed_at_most);
}

void Metrics::require_sound(std::int64_t step) const {
  if (!damaged_ || damaged_->after_step >= step) return;
  core::bad_input(path_.string(), ":", damaged_->number, ": the line is not JSON; remove it or move the file away");
}

void Metrics::open(std::int64_t resumed_at, std::int64_t last_step, std::int64_t log_every) {
  require_sound(resumed_at);
  last_step_ = last_step;
  log_every_ = log_every;
  recomputed_ = std::max<std::int64_t>(0, newest_ - resumed_at);
  if (damaged_) {
    core::log_warning(core::concat(path_.string(), ":", damaged_->number,
                                   ": the line is not JSON, as a loss of power may leave it; it and what follows are "
                                   "cut off, since this start computes their steps again"));
  }
  io::cut_json_lines(path_, [&](std::size_t, const nlohmann::json& line) {
    if (line.is_discarded() || line["step"].get<std::int64_t>() > resumed_at) return false;
    last_kept_ = line["step"].get<std::int64_t>();
    return true;
  });
  file_.emplace(path_);
}

void Metrics::sync() { file_->sync(); }

void Metrics::record(const StepReport& report, double seconds, std::optional<double> held_out_loss,
                     const StepExtras& extras) {
  io::MetricsLine line;
  line.step = report.step;
  line.restart = restart_;
  line.loss = report.loss;
  line.ce_loss = report.ce_loss;
  line.balance_loss = report.balance_loss;
  line.held_out_loss = held_out_loss;
  line.lr = report.lr;
  line.grad_norm = report.grad_norm;
  line.tokens = report.tokens;
  line.response_tokens = report.targets;
  line.seconds = seconds;
  line.tokens_per_second = static_cast<double>(report.tokens) / seconds;
  line.busiest_expert = report.busiest_expert;
  line.idlest_expert = report.idlest_expert;
  line.dropped_assignments = report.dropped;
  if (report.skipped) line.skipped = true;
  line.irregular = extras.irregular;
  line.save_stall_seconds = extras.save.stalled;
  line.save_seconds = extras.save.durable;
  if (extras.slowest) {
    line.slowest_rank = extras.slowest->rank;
    line.waited_for_slowest = extras.slowest->share;
  }
  if (extras.profile) line.profile = extras.profile->to_json();
  file_->append(line.to_json());
  log_interval(report, seconds, held_out_loss, extras);
}

void Metrics::log_interval(const StepReport& report, double seconds, std::optional<double> held_out_loss,
                           const StepExtras& extras) {
  interval_seconds_ += seconds;
  interval_tokens_ += report.tokens;
  ++interval_steps_;
  if (report.step % log_every_ != 0 && report.step != last_step_ && !held_out_loss) return;
  const double remaining =
      interval_seconds_ / static_cast<double>(interval_steps_) * static_cast<double>(last_step_ - report.step);
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(),
                "step %lld/%lld  loss %.4f  rate %.2e  gradient %.3f  %.0f tokens/s  experts %.2f-%.2f  %s left",
                static_cast<long long>(report.step), static_cast<long long>(last_step_), report.loss, report.lr,
                report.grad_norm, static_cast<double>(interval_tokens_) / interval_seconds_, report.idlest_expert,
                report.busiest_expert, core::format_duration(remaining).c_str());
  std::string out = text.data();
  if (report.dropped) {
    const auto all = static_cast<double>(std::max<std::int64_t>(1, report.assignments));
    std::snprintf(text.data(), text.size(), "  dropped %.1f %%", 100 * static_cast<double>(*report.dropped) / all);
    out += text.data();
  }
  if (held_out_loss) out += core::concat("  held-out loss ", *held_out_loss);
  core::log_line(out);
  if (extras.profile) core::log_line(extras.profile->to_text());
  interval_seconds_ = 0;
  interval_tokens_ = interval_steps_ = 0;
}

}  // namespace caravan::train
