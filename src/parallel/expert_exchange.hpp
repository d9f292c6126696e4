// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "parallel/context.hpp"

namespace caravan::parallel {

/// Moves rows between the ranks that routed them and the ranks that hold their experts (all-to-all over EP), for some
/// of each rank's slots: one round of an exchange. Every rank of the group takes part, also with no row at all.
class ExchangeRound {
 public:
  /// Rows of the round's slots, [slots, …] → rows for this rank's experts, [received, …], ordered by expert, then by
  /// the rank they come from.
  at::Tensor dispatch(const char* operation, const at::Tensor& rows) const;
  /// The way back: [received, …] → [slots, …].
  at::Tensor collect(const char* operation, const at::Tensor& rows) const;

  /// What this round's slots have of one value, or row, per slot of this rank.
  at::Tensor part_of(const at::Tensor& all_slots) const;
  /// Puts the round's rows, [slots, …], where they belong among those of all slots; the first round makes `all_slots`.
  void put(at::Tensor& all_slots, const at::Tensor& rows) const;

  /// Rows per local expert, [E/EP].
  const std::vector<std::int64_t>& expert_rows() const { return expert_rows_; }
  std::int64_t received() const { return received_; }

 private:
  friend class ExchangePlan;
  comm::Communicator* group_ = nullptr;       // null: one rank holds all experts
  std::vector<std::int64_t> send_, receive_;  // rows to and from each rank
  std::vector<std::int64_t> expert_rows_;
  std::int64_t received_ = 0, all_slots_ = 0;
  at::Tensor slots_;                            // int64 [slots], ascending; undefined: all slots of this rank
  at::Tensor to_expert_order_, to_rank_order_;  // int64 [received], undefined when there is one rank
};

/// The rounds of an exchange: as few as let no rank of the group receive more than `most_rows` rows at a time, but for
/// one more from each of the group's (rank, expert of the receiver) pairs, which are E: each round takes the same share
/// of every pair's slots, rounded. All ranks of the group have the same number of rounds; one, whatever comes, when EP
/// is 1. Rank e of the group holds experts [e·E/EP, (e+1)·E/EP).
/// counts: int64 [E] on the host, this rank's slots per expert; its slots lie in that order. Collective over EP.
std::vector<ExchangeRound> plan_exchange(const Context& context, const at::Tensor& counts, std::int64_t most_rows);

}  // namespace caravan::parallel
