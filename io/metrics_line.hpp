// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

namespace caravan::io {

/// One line of RUN/metrics.jsonl, which belongs to one optimizer step: what train writes and whoever looks at a run
/// reads. docs/metrics.md is its page; a test compares the two.
struct MetricsLine {
  std::int64_t step = 0;
  std::int64_t restart = 0;
  std::optional<double> loss, ce_loss, balance_loss;
  std::optional<double> held_out_loss;
  std::optional<double> lr, grad_norm;
  std::optional<std::int64_t> tokens, response_tokens;
  std::optional<double> seconds, tokens_per_second;
  std::optional<double> busiest_expert, idlest_expert;
  std::optional<std::int64_t> dropped_assignments;
  std::optional<bool> skipped;
  std::optional<nlohmann::json> irregular;
  std::optional<double> save_stall_seconds, save_seconds;
  std::optional<std::int64_t> slowest_rank;
  std::optional<double> waited_for_slowest;
  std::optional<nlohmann::json> profile;

  /// visit(name, member, unit, when it is there) for each field.
  template <typename Line, typename Visitor>
  static void describe(Line& line, Visitor&& visit) {
    visit("step", line.step, "", "always");
    visit("restart", line.restart, "", "always");
    visit("loss", line.loss, "nats", "always");
    visit("ce_loss", line.ce_loss, "nats", "always");
    visit("balance_loss", line.balance_loss, "", "always");
    visit("held_out_loss", line.held_out_loss, "nats", "every evaluate.every steps");
    visit("lr", line.lr, "", "always");
    visit("grad_norm", line.grad_norm, "", "always");
    visit("tokens", line.tokens, "tokens", "always");
    visit("response_tokens", line.response_tokens, "tokens", "always");
    visit("seconds", line.seconds, "s", "always");
    visit("tokens_per_second", line.tokens_per_second, "tokens/s", "always");
    visit("busiest_expert", line.busiest_expert, "", "always");
    visit("idlest_expert", line.idlest_expert, "", "always");
    visit("dropped_assignments", line.dropped_assignments, "", "with train.capacity");
    visit("skipped", line.skipped, "", "for a step that updated nothing");
    visit("irregular", line.irregular, "", "for a skipped step or a spike of the loss");
    visit("save_stall_seconds", line.save_stall_seconds, "s", "where training waited for a save");
    visit("save_seconds", line.save_seconds, "s", "where a save ended");
    visit("slowest_rank", line.slowest_rank, "", "every train.log_every steps, with several ranks");
    visit("waited_for_slowest", line.waited_for_slowest, "", "with slowest_rank");
    visit("profile", line.profile, "", "with train.profile");
  }

  /// The fields that are there. A number that is not finite becomes null in the file.
  nlohmann::json to_json() const;
  /// Null for what is no line of a step: no object, or "step" or "restart" is no whole number. A missing "restart" is
  /// 0, and a null for a real number NaN. A field that is not of its type counts as absent; further ones are ignored.
  static std::optional<MetricsLine> from_json(const nlohmann::json& json);
};

}  // namespace caravan::io
