// SPDX-License-Identifier: Apache-2.0
#include "train/numerics_guard.hpp"

#include <algorithm>
#include <numeric>

#include "comm/agreement.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace caravan::train {
namespace {

constexpr std::size_t window = 20;      // losses that make the usual one
constexpr std::size_t enough = 10;      // fewer say too little
constexpr std::size_t most_named = 16;  // sequences in a log line; metrics.jsonl has all

std::string describe_sequences(const data::GlobalBatch& batch) {
  std::string text = "sequences";
  for (std::size_t i = 0; i < std::min(most_named, batch.samples.size()); ++i) {
    text += core::concat(i > 0 ? ", " : " ", batch.samples[i].sequence);
  }
  if (batch.samples.size() > most_named) text += core::concat(" and ", batch.samples.size() - most_named, " more");
  return text;
}

}  // namespace

std::optional<double> NumericsGuard::usual_loss() const {
  if (losses_.size() < enough) return std::nullopt;
  return std::accumulate(losses_.begin(), losses_.end(), 0.0) / static_cast<double>(losses_.size());
}

std::optional<nlohmann::json> NumericsGuard::irregular(const char* what, const data::GlobalBatch& batch) const {
  nlohmann::json json{{"what", what}, {"sequences", nlohmann::json::array()}};
  for (const data::Sample& sample : batch.samples) json["sequences"].push_back(sample.sequence);
  if (const auto usual = usual_loss()) json["usual_loss"] = *usual;
  return json;
}

std::optional<nlohmann::json> NumericsGuard::look_at(const StepReport& report, const data::GlobalBatch& batch) {
  if (report.skipped) {
    ++skipped_in_a_row_;
    const std::string what = core::concat("step ", report.step, ": loss ", report.loss, " and gradient norm ",
                                          report.grad_norm, " are not finite (", describe_sequences(batch), ")");
    if (skipped_in_a_row_ > limits_.most_skipped) {
      throw comm::AgreedError(
          core::ExitCode::numerics,
          core::concat(what, "; ", skipped_in_a_row_,
                       " steps in a row were skipped, more than train.max_skipped = ", limits_.most_skipped,
                       ". The checkpoints before them are good: lower train.lr or train.clip, or look into the data"));
    }
    core::log_warning(what + "; the step is skipped: nothing was updated");
    return irregular("skipped", batch);
  }
  skipped_in_a_row_ = 0;
  const auto usual = usual_loss();
  const bool spike = usual && limits_.spike > 0 && report.ce_loss > limits_.spike * *usual;
  std::optional<nlohmann::json> found;
  if (spike) {
    core::log_warning(core::concat("step ", report.step, ": loss ", report.ce_loss, " against ", *usual,
                                   " in the steps before (", describe_sequences(batch), ")"));
    found = irregular("spike", batch);
  }
  losses_.push_back(report.ce_loss);
  if (losses_.size() > window) losses_.pop_front();
  return found;
}

}  // namespace caravan::train
