// SPDX-License-Identifier: Apache-2.0
#include "model/expert_capacity.hpp"

#include "parallel/collectives.hpp"

namespace caravan::model {
namespace {

/// How often each number in [0, bins) occurs, int64 [bins]; negative ones count nowhere. at::bincount would make the
/// host wait for the largest number.
at::Tensor count(const at::Tensor& numbers, std::int64_t bins) {
  const at::Tensor bin = at::where(numbers.ge(0), numbers, bins).flatten().to(at::kLong);
  at::Tensor counts = at::zeros({bins + 1}, bin.options());
  return counts.scatter_add_(0, bin, at::ones_like(bin)).narrow(0, 0, bins);
}

/// Assignments of each sequence to each expert, int64 [S, E].
at::Tensor assignments_of(const at::Tensor& indices, const at::Tensor& row, std::int64_t sequences,
                          std::int64_t experts) {
  const at::Tensor cell = row.to(at::kLong).unsqueeze(1).mul(experts).add(indices);
  return count(at::where(indices.ge(0), cell, -1), sequences * experts).view({sequences, experts});
}

}  // namespace

at::Tensor within_capacity(const parallel::Context& context, const parallel::TokenAxis& axis, const at::Tensor& indices,
                           std::int64_t experts, double capacity) {
  const at::Tensor row = axis.shard_of(axis.sequence);
  const at::Tensor lengths = count(axis.sequence, axis.sequences);
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
