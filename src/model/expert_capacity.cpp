// SPDX-License-Identifier: Apache-2.0
#include "model/expert_capacity.hpp"

#include "parallel/collectives.hpp"

namespace caravan::model {
namespace {

/// Assignments of each sequence to each expert, int64 [S, E].
at::Tensor assignments_of(const at::Tensor& indices, const at::Tensor& row, std::int64_t sequences,
                          std::int64_t experts) {
  const at::Tensor cell = row.to(at::kLong).unsqueeze(1).mul(experts).add(indices).masked_select(indices.ge(0));
  return at::bincount(cell, {}, sequences * experts).view({sequences, experts});
}

}  // namespace

at::Tensor within_capacity(const parallel::Context& context, const parallel::TokenAxis& axis, const at::Tensor& indices,
                           std::int64_t experts, double capacity) {
  const at::Tensor row = axis.shard_of(axis.sequence);
  const at::Tensor lengths = at::bincount(axis.sequence.narrow(0, 0, axis.real), {}, axis.sequences);
  const at::Tensor limit = lengths.to(at::kDouble)
                               .mul(capacity * static_cast<double>(indices.size(1)))
                               .div(static_cast<double>(experts))
                               .ceil()
                               .to(at::kLong);
  const at::Tensor mine = assignments_of(indices, row, axis.sequences, experts);
  const at::Tensor all = parallel::gather_rows(*context.groups.tp, "gather expert assignments", mine.unsqueeze(0));
  at::Tensor taken = all.narrow(0, 0, context.grid.tp_rank()).sum(0);  // on the ranks before
  return parallel::keep_within_limit(indices, row, limit, taken);
}

}  // namespace caravan::model
