// SPDX-License-Identifier: Apache-2.0
#include "plan/traffic.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <ostream>
#include <string_view>

#include "core/error.hpp"
#include "layout/thresholds.hpp"

namespace caravan::plan {
namespace {

constexpr std::array<std::string_view, 6> routed{"ep: dispatch tokens",
                                                 "ep: dispatch routing weights",
                                                 "ep: collect expert outputs",
                                                 "ep: dispatch expert output gradients",
                                                 "ep: collect expert input gradients",
                                                 "ep: collect routing weight gradients"};

std::string key(const char* group, const char* operation) { return std::string(group) + ": " + operation; }

std::int64_t updates_among(const family::ModelSpec& spec, std::initializer_list<const char*> linears) {
  return std::count_if(linears.begin(), linears.end(),
                       [&](const char* linear) { return spec.lora && spec.lora->has(linear); });
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Sent& sent) {
  return out << sent.messages << " messages, " << sent.bytes << " bytes";
}

StepTraffic::StepTraffic(const layout::Grid& grid, const family::ModelSpec& spec, const StepSettings& settings)
    : grid_(grid), spec_(spec), settings_(settings) {}

void StepTraffic::to_all(const Group& group, const char* operation, std::int64_t calls, std::int64_t bytes) {
  if (group.size == 1) return;
  Sent& sent = sent_[key(group.name, operation)];
  if (bytes == 0) return;
  sent.messages += calls * (group.size - 1);
  sent.bytes += calls * (group.size - 1) * bytes;
}

void StepTraffic::sum(const Group& group, const char* operation, std::int64_t elements, std::int64_t element_bytes) {
  // Few elements go to everyone; of many each rank sums a part and hands it out.
  if (elements * group.size <= layout::gathered_sum) return to_all(group, operation, 1, elements * element_bytes);
  if (group.size == 1) return;
  const std::int64_t part = elements / group.size + (group.rank < elements % group.size ? 1 : 0);
  Sent& sent = sent_[key(group.name, operation)];
  const std::int64_t parts = std::min<std::int64_t>(elements, group.size);  // that are not empty
  sent.messages += parts - (part > 0 ? 1 : 0) + (part > 0 ? group.size - 1 : 0);
  sent.bytes += element_bytes * (elements - part + (group.size - 1) * part);
}

void StepTraffic::linears(std::int64_t shard) {
  const bool full = settings_.recompute_all, selective = settings_.recompute_some;
  const std::int64_t rows = shard * spec_.hidden * settings_.element_bytes;
  // In each layer a pair of each: attention's and the feed-forward block's.
  const std::int64_t gathers = full                                                                     ? 4
                               : selective && spec_.heads >= layout::cheap_query_heads * spec_.kv_heads ? 3
                                                                                                        : 2;
  to_all(tp(), "gather input of column linears", gathers * spec_.layers, rows);
  to_all(tp(), "reduce output of row linear", (full ? 4 : 2) * spec_.layers, rows);
  to_all(tp(), "reduce input gradient of column linears", 2 * spec_.layers, rows);
  to_all(tp(), "gather output gradient of row linear", 2 * spec_.layers, rows);
  for (const std::int64_t updates :
       {updates_among(spec_, {"q_proj", "k_proj", "v_proj"}), updates_among(spec_, {"gate_proj", "up_proj"})}) {
    if (updates == 0) continue;
    const std::int64_t inner = shard * updates * spec_.lora->rank * settings_.element_bytes;
    to_all(tp(), "gather lora inner activations", spec_.layers, inner);
    to_all(tp(), "reduce lora inner gradient", spec_.layers, inner);
  }
}

void StepTraffic::routing(const MicroStep& step) {
  const std::int64_t counts = spec_.layers * spec_.pesc->experts;
  if (settings_.limited_capacity) {
    to_all(tp(), "gather expert assignments", spec_.layers, 8 * step.sequences * spec_.pesc->experts);
  }
  const std::int64_t rows = settings_.balance_by_sequence ? step.sequences : 1;
  sum(settings_.balance_by_sequence ? tp() : world(), "sum routing statistics", 2 * counts * rows + 1, 8);
}

void StepTraffic::exchange(const ExchangeRows& rows) {
  if (grid_.ep() == 1) return;
  to_all(ep(), "gather expert counts", 1, 8 * spec_.pesc->experts);
  const auto sent = [&](const std::vector<std::int64_t>& pieces, const char* operation, std::int64_t calls,
                        std::int64_t row_bytes) {
    CARAVAN_CHECK(pieces.size() == static_cast<std::size_t>(grid_.ep()), operation);
    Sent& all = sent_[key("ep", operation)];
    for (std::size_t rank = 0; rank < pieces.size(); ++rank) {
      if (rank == static_cast<std::size_t>(grid_.ep_rank())) continue;
      all.messages += calls * (pieces[rank] > 0 ? 1 : 0);
      all.bytes += calls * pieces[rank] * row_bytes;
    }
  };
  const std::int64_t row = spec_.hidden * settings_.element_bytes, weight = 4;
  const bool outputs_remade = settings_.recompute_some, remade = outputs_remade || settings_.recompute_all;
  sent(rows.to, "dispatch routing weights", 1, weight);
  sent(rows.to, "dispatch tokens", remade ? 2 : 1, row);
  sent(rows.from, "collect expert outputs", outputs_remade ? 2 : 1, row);
  sent(rows.to, "dispatch expert output gradients", 1, row);
  sent(rows.from, "collect expert input gradients", 1, row);
  sent(rows.from, "collect routing weight gradients", 1, weight);
}

void StepTraffic::micro_step(const MicroStep& step, const std::vector<ExchangeRows>& exchanges) {
  const std::int64_t shard = (step.tokens + grid_.tp() - 1) / grid_.tp();
  const std::int64_t rows = shard * spec_.hidden * settings_.element_bytes;
  to_all(tp(), "reduce embeddings", 1, rows);
  linears(shard);
  to_all(tp(), "gather input of the head", 1, rows);
  for (std::int64_t begin = 0; begin == 0 || begin < step.targets; begin += layout::logit_tokens) {
    const std::int64_t chunk = std::min(layout::logit_tokens, step.targets - begin);
    sum(tp(), "maximum of logits", chunk, 4);
    sum(tp(), "sums of logits", 2 * chunk, 4);
  }
  to_all(tp(), "reduce input gradient of the head", 1, rows);
  if (spec_.pesc) routing(step);
  for (const ExchangeRows& of_layer : exchanges) exchange(of_layer);
}

void StepTraffic::update(const std::vector<BucketShares>& buckets) {
  sum(dp(), "sum loss", 1, 8);
  if (settings_.balance_by_sequence && spec_.pesc) {
    sum(dp(), "sum balance loss", 1, 8);
    sum(dp(), "sum expert assignments", spec_.layers * spec_.pesc->experts, 8);
    if (settings_.limited_capacity) sum(dp(), "sum dropped assignments", 1, 8);
  }
  for (const BucketShares& bucket : buckets) {
    const auto replicas = static_cast<std::int64_t>(bucket.counts.size());
    if (replicas == 1) continue;
    const std::int64_t owned = bucket.counts[static_cast<std::size_t>(bucket.rank)];
    Sent& sums = sent_[key(bucket.group.c_str(), "reduce gradients")];
    for (std::size_t r = 0; r < bucket.counts.size(); ++r) {
      if (r == static_cast<std::size_t>(bucket.rank)) continue;
      sums.messages += bucket.counts[r] > 0 ? 1 : 0;
      sums.bytes += 4 * bucket.counts[r];
    }
    to_all({bucket.group.c_str(), replicas, bucket.rank}, "gather updated parameters", 1,
           owned * settings_.element_bytes);
  }
  sum(world(), "sum of squared gradients", 1, 8);
}

ExchangeRows even_exchange(const layout::Grid& grid, const family::Pesc& pesc, std::int64_t tokens) {
  const std::int64_t shard = (tokens + grid.tp() - 1) / grid.tp();
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(grid.ep()), pesc.topk * shard / grid.ep());
  return {rows, rows};
}

bool depends_on_routing(const std::string& group_and_operation) {
  return std::find(routed.begin(), routed.end(), group_and_operation) != routed.end();
}

}  // namespace caravan::plan
