// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "parallel/context.hpp"

namespace caravan::parallel {

/// Moves rows between the ranks that routed them and the ranks that hold their experts (all-to-all over EP). Rank e of
/// the group holds experts [e·E/EP, (e+1)·E/EP). Every rank of the group takes part, also with no row at all.
class ExpertExchange {
 public:
  /// counts: int64 [E] on the host, this rank's slots per expert; its rows lie in that order. Collective over EP.
  ExpertExchange(const Context& context, const at::Tensor& counts);

  /// Rows of this rank's slots, [slots, …] → rows for this rank's experts, [received, …], ordered by expert, then by
  /// the rank they come from.
  at::Tensor dispatch(const char* operation, const at::Tensor& rows) const;
  /// The way back: [received, …] → [slots, …].
  at::Tensor collect(const char* operation, const at::Tensor& rows) const;

  /// Rows per local expert, [E/EP].
  const std::vector<std::int64_t>& expert_rows() const { return expert_rows_; }
  std::int64_t received() const { return received_; }

 private:
  const Context& context_;
  std::vector<std::int64_t> send_, receive_;  // rows to and from each rank
  std::vector<std::int64_t> expert_rows_;
  std::int64_t received_ = 0;
  at::Tensor to_expert_order_, to_rank_order_;  // int64 [received], undefined when there is one rank
};

}  // namespace caravan::parallel
