// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "family/model_spec.hpp"
#include "layout/grid.hpp"

// What the collectives of a training step send: the formulas of docs/parallelism.md.
namespace caravan::plan {

/// What a rank hands to other ranks; empty pieces are no messages.
struct Sent {
  std::int64_t messages = 0;
  std::int64_t bytes = 0;
  friend bool operator==(const Sent&, const Sent&) = default;
};
/// "3 messages, 120 bytes".
std::ostream& operator<<(std::ostream& out, const Sent& sent);

/// By "GROUP: OPERATION", as the communicators name both. A group of one rank sends nothing and is not there.
using Traffic = std::map<std::string, Sent>;

/// The settings of [train] that decide what is sent.
struct StepSettings {
  std::int64_t element_bytes = 4;    // of activations and weights: 2 in bf16
  bool recompute_some = false;       // train.recompute = selective
  bool recompute_all = false;        // train.recompute = full
  bool balance_by_sequence = false;  // train.balance_scope = sequence
  bool limited_capacity = false;     // train.capacity > 0
};

/// Rows of one layer that an exchange over EP moves, [EP]: this rank's rows for the experts of each rank, and each
/// rank's rows for this rank's experts.
struct ExchangeRows {
  std::vector<std::int64_t> to, from;
};

/// One micro-step of a data-parallel rank.
struct MicroStep {
  std::int64_t tokens = 0;     // without pads
  std::int64_t targets = 0;    // tokens with a target
  std::int64_t sequences = 0;  // that the tokens belong to
};

/// A bucket of gradients with the same replicas.
struct BucketShares {
  std::string group;                 // "world", "dp" or "edp"
  int rank = 0;                      // this rank's in the group
  std::vector<std::int64_t> counts;  // [replica]: elements that it owns
};

/// What this rank sends in a step, summed up over its micro-steps and its update.
class StepTraffic {
 public:
  StepTraffic(const layout::Grid& grid, const family::ModelSpec& spec, const StepSettings& settings);

  /// exchanges: of each layer, in one round; none where the model has no adapters.
  void micro_step(const MicroStep& step, const std::vector<ExchangeRows>& exchanges);
  /// What follows the micro-steps.
  void update(const std::vector<BucketShares>& buckets);

  const Traffic& sent() const { return sent_; }

 private:
  struct Group {
    const char* name;
    std::int64_t size, rank;
  };
  Group world() const { return {"world", grid_.world(), grid_.rank()}; }
  Group tp() const { return {"tp", grid_.tp(), grid_.tp_rank()}; }
  Group dp() const { return {"dp", grid_.dp(), grid_.dp_rank()}; }
  Group ep() const { return {"ep", grid_.ep(), grid_.ep_rank()}; }

  /// The same piece to every other rank of a group, `calls` times.
  void to_all(const Group& group, const char* operation, std::int64_t calls, std::int64_t bytes);
  /// An all-reduce.
  void sum(const Group& group, const char* operation, std::int64_t elements, std::int64_t element_bytes);
  void linears(std::int64_t shard);
  void routing(const MicroStep& step);
  void exchange(const ExchangeRows& rows);

  layout::Grid grid_;
  family::ModelSpec spec_;
  StepSettings settings_;
  Traffic sent_;
};

/// The exchange of a micro-step whose routing is even, and as large on all ranks: the same in every layer.
ExchangeRows even_exchange(const layout::Grid& grid, const family::Pesc& pesc, std::int64_t tokens);

/// Whether what an operation sends depends on the routing, so that an even one gives its mean only.
bool depends_on_routing(const std::string& group_and_operation);

}  // namespace caravan::plan
