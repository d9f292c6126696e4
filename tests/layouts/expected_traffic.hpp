// SPDX-License-Identifier: Apache-2.0
// The formulas of docs/parallelism.md: what each collective of a training step sends, per rank.
#pragma once

#include <algorithm>
#include <map>
#include <numeric>
#include <ostream>
#include <string>

#include "model/decoder.hpp"
#include "parallel/parameters.hpp"

namespace caravan::tests {

struct Sent {
  std::int64_t messages = 0;
  std::int64_t bytes = 0;
  friend bool operator==(const Sent&, const Sent&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Sent& sent) {
    return out << sent.messages << " messages, " << sent.bytes << " bytes";
  }
};

/// By "GROUP: OPERATION".
using ExpectedTraffic = std::map<std::string, Sent>;

class TrafficFormulas {
 public:
  TrafficFormulas(const parallel::Context& context, const family::ModelSpec& spec)
      : context_(context), spec_(spec), bytes_(context.compute == at::kFloat ? 4 : 2) {}

  /// Rows that each rank of the EP group has for each expert, int64 [EP, E].
  using Slots = at::Tensor;

  /// A micro-step with T tokens, `targets` of them with a target, and batch-wide balance. slots: of each layer.
  void micro_step(std::int64_t tokens, std::int64_t targets, const std::vector<Slots>& slots) {
    const std::int64_t t = context_.grid.tp(), shard = tokens / t, layers = spec_.layers;
    const std::int64_t rows = shard * spec_.hidden * bytes_;
    everyone("tp", t, "reduce embeddings", 1, rows);
    everyone("tp", t, "gather input of the head", 1, rows);
    everyone("tp", t, "reduce input gradient of the head", 1, rows);
    for (const char* operation : {"gather input of column linears", "reduce output of row linear",
                                  "reduce input gradient of column linears", "gather output gradient of row linear"}) {
      everyone("tp", t, operation, 2 * layers, rows);
    }
    for (const char* operation : {"gather lora inner activations", "reduce lora inner gradient"}) {
      everyone("tp", t, operation, layers, shard * 3 * spec_.lora->rank * bytes_);  // q, k, v
      everyone("tp", t, operation, layers, shard * 2 * spec_.lora->rank * bytes_);  // gate, up
    }
    for (std::int64_t begin = 0; begin < targets; begin += 1024) {
      const std::int64_t chunk = std::min<std::int64_t>(1024, targets - begin);
      sum_everywhere("tp", context_.grid.tp(), context_.grid.tp_rank(), "maximum of logits", chunk, 4);
      sum_everywhere("tp", context_.grid.tp(), context_.grid.tp_rank(), "sums of logits", 2 * chunk, 4);
    }
    for (const Slots& of_layer : slots) exchange(of_layer);
    sum_everywhere("world", context_.grid.world(), context_.grid.rank(), "sum routing statistics",
                   layers * 2 * spec_.pesc->experts + 1, 8);
  }

  /// What follows the micro-steps.
  void update(const std::vector<parallel::Bucket>& buckets) {
    sum_everywhere("dp", context_.grid.dp(), context_.grid.dp_rank(), "sum loss", 1, 8);
    sum_everywhere("world", context_.grid.world(), context_.grid.rank(), "sum of squared gradients", 1, 8);
    for (const parallel::Bucket& bucket : buckets) {
      const std::int64_t replicas = bucket.replicas->size();
      if (replicas == 1) continue;
      const std::string& group = bucket.replicas->name();
      const std::int64_t all = std::accumulate(bucket.counts.begin(), bucket.counts.end(), std::int64_t{0});
      Sent& sums = sent_[group + ": reduce gradients"];
      sums.bytes += 4 * (all - bucket.owned_count);
      for (std::size_t r = 0; r < bucket.counts.size(); ++r) {
        sums.messages += static_cast<int>(r) != bucket.replicas->rank() && bucket.counts[r] > 0;
      }
      everyone(group.c_str(), replicas, "gather updated parameters", 1, bucket.owned_count * bytes_);
    }
  }

  const ExpectedTraffic& sent() const { return sent_; }

 private:
  /// The same piece to every other rank of a group, `calls` times.
  void everyone(const char* group, std::int64_t size, const char* operation, std::int64_t calls, std::int64_t bytes) {
    if (size == 1) return;
    Sent& sent = sent_[std::string(group) + ": " + operation];
    if (bytes == 0) return;
    sent.messages += calls * (size - 1);
    sent.bytes += calls * (size - 1) * bytes;
  }

  /// An all-reduce: few elements go to everyone; of many each rank sums a part and hands it out.
  void sum_everywhere(const char* group, std::int64_t size, std::int64_t rank, const char* operation,
                      std::int64_t elements, std::int64_t element_bytes) {
    if (elements * size <= 16384) return everyone(group, size, operation, 1, elements * element_bytes);
    const std::int64_t part = elements / size + (rank < elements % size ? 1 : 0);
    Sent& sent = sent_[std::string(group) + ": " + operation];
    sent.messages += 2 * (size - 1);
    sent.bytes += element_bytes * (elements - part + (size - 1) * part);
  }

  void exchange(const Slots& slots) {
    const std::int64_t ranks = context_.grid.ep(), me = context_.grid.ep_rank();
    if (ranks == 1) return;
    everyone("ep", ranks, "gather expert counts", 1, spec_.pesc->experts * 8);
    const at::Tensor pairs = slots.view({ranks, ranks, -1}).sum(2);  // [from, to]
    Sent out, back;                                                  // rows
    for (std::int64_t other = 0; other < ranks; ++other) {
      if (other == me) continue;
      const auto leaving = pairs[me][other].item<std::int64_t>(), arrived = pairs[other][me].item<std::int64_t>();
      out.messages += leaving > 0;
      out.bytes += leaving;
      back.messages += arrived > 0;
      back.bytes += arrived;
    }
    const std::int64_t row = spec_.hidden * bytes_, weight = 4;
    const auto send = [&](const char* operation, const Sent& rows, std::int64_t row_bytes) {
      Sent& sent = sent_[std::string("ep: ") + operation];
      sent.messages += rows.messages;
      sent.bytes += rows.bytes * row_bytes;
    };
    send("dispatch routing weights", out, weight);
    send("dispatch tokens", out, row);
    send("collect expert outputs", back, row);
    send("dispatch expert output gradients", out, row);
    send("collect expert input gradients", back, row);
    send("collect routing weight gradients", back, weight);
  }

  const parallel::Context& context_;
  const family::ModelSpec& spec_;
  std::int64_t bytes_;
  ExpectedTraffic sent_;
};

}  // namespace caravan::tests
