// SPDX-License-Identifier: Apache-2.0
#include "family/lora.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::family {

bool Lora::has(const std::string& linear) const {
  return std::find(targets.begin(), targets.end(), linear) != targets.end();
}

double Lora::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rank_stabilised ? std::sqrt(r) : r);
}

const std::vector<std::string>& lora_linears() {
  static const std::vector<std::string> linears{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                "gate_proj", "up_proj", "down_proj"};
  return linears;
}

std::vector<std::string> checked_targets(const std::vector<std::string>& targets, const std::string& where) {
  const std::vector<std::string>& linears = lora_linears();
  if (targets.empty()) core::bad_input(where, " names no linear; name some, or set lora.rank = 0");
  std::set<std::string> seen;
  for (const std::string& target : targets) {
    if (std::find(linears.begin(), linears.end(), target) == linears.end()) {
      core::bad_input(where, ": ", target, " is no linear; use ", core::join(linears));
    }
    if (!seen.insert(target).second) core::bad_input(where, " names ", target, " twice");
  }
  std::vector<std::string> ordered;
  for (const std::string& linear : linears) {
    if (seen.contains(linear)) ordered.push_back(linear);
  }
  return ordered;
}

std::optional<Lora> lora_of(const LoraOptions& options) {
  if (options.rank == 0) return std::nullopt;
  return Lora{options.rank, options.alpha, checked_targets(options.targets, "lora.targets"), options.rslora};
}

std::optional<Lora> read_lora(const ConfigFields& fields) {
  if (!fields.has("caravan") || !fields.inside("caravan").has("lora")) return std::nullopt;
  const ConfigFields inner = fields.inside("caravan").inside("lora");
  Lora lora;
  lora.rank = inner.whole("rank", 1);
  lora.alpha = inner.positive("alpha");
  if (!inner.has("targets") || !inner.json().at("targets").is_array()) inner.refuse("targets", " is not a list");
  for (const auto& target : inner.json().at("targets")) {
    if (!target.is_string()) inner.refuse("targets", " is not a list of names");
    lora.targets.push_back(target.get<std::string>());
  }
  lora.targets = checked_targets(lora.targets, fields.file() + ": caravan.lora.targets");
  lora.rank_stabilised = inner.flag_or("rslora", false);
  return lora;
}

nlohmann::json lora_json(const Lora& lora) {
  nlohmann::json json{{"rank", lora.rank}, {"alpha", lora.alpha}, {"targets", lora.targets}};
  // Written only when set, so that older programs read what they understand.
  if (lora.rank_stabilised) json["rslora"] = true;
  return json;
}

}  // namespace caravan::family
