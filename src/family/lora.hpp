// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "family/config_fields.hpp"
#include "family/options.hpp"

namespace caravan::family {

/// Low-rank updates of linears: W x + scale() · B (A x) (Hu et al., "LoRA", ICLR 2022).
struct Lora {
  std::int64_t rank = 0;
  double alpha = 0;
  std::vector<std::string> targets;  // of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, in this order
  bool rank_stabilised = false;      // rsLoRA (Kalajdzievski 2023)

  bool has(const std::string& linear) const;
  /// alpha / rank, or alpha / √rank when rank-stabilised.
  double scale() const;
  bool operator==(const Lora&) const = default;
};

/// The linears that may have an update, in the order of the forward pass.
const std::vector<std::string>& lora_linears();

/// The targets in the order of the forward pass, so that equal sets are equal. Throws (exit 2), naming `where`, when
/// there is none, one is no linear, or one is there twice.
std::vector<std::string> checked_targets(const std::vector<std::string>& targets, const std::string& where);

/// What options say about LoRA: nothing when the rank is 0. Throws (exit 2) when a target is named twice or none is.
std::optional<Lora> lora_of(const LoraOptions& options);

/// config.json's caravan.lora, which upcycle writes; nothing when it is not there. Throws (exit 2).
std::optional<Lora> read_lora(const ConfigFields& fields);
/// The value of caravan.lora.
nlohmann::json lora_json(const Lora& lora);

}  // namespace caravan::family
