// SPDX-License-Identifier: Apache-2.0
#include "model/routing_record.hpp"

#include "parallel/collectives.hpp"

namespace caravan::model {

RoutingRecord::RoutingRecord(const parallel::Context& context, const parallel::TokenAxis& axis, std::int64_t layers,
                             std::int64_t experts, BalanceScope scope)
    : context_(context), scope_(scope) {
  rows_ = axis.shard_of(axis.sequence).contiguous();
  row_count_ = axis.sequences;
  if (scope == BalanceScope::batch) {
    rows_ = rows_.clamp_max(0);  // every token that is not a pad belongs to row 0
    row_count_ = 1;
  }
  local_ = at::zeros({layers, 2, row_count_, experts}, at::TensorOptions(at::kDouble).device(context.device));
  dropped_ = at::zeros({}, local_.options());
}

void RoutingRecord::set(std::int64_t layer, const at::Tensor& statistics) { local_[layer].copy_(statistics); }

void RoutingRecord::reduce() {
  at::Tensor sums = at::cat({local_.flatten(), dropped_.reshape({1})});
  comm::Communicator& group = scope_ == BalanceScope::batch ? *context_.groups.world : *context_.groups.tp;
  parallel::all_reduce(group, "sum routing statistics", sums, comm::Reduce::sum);
  reduced_ = sums.narrow(0, 0, local_.numel()).view_as(local_);
  reduced_dropped_ = sums[local_.numel()];
}

at::Tensor RoutingRecord::share(std::int64_t layer) const {
  const at::Tensor counts = reduced_[layer][0];
  return counts.div(counts.sum(1, /*keepdim=*/true).clamp_min(1)).contiguous();
}

at::Tensor RoutingRecord::share_times_probability() const {
  at::Tensor sum = at::zeros({}, reduced_.options());
  for (std::int64_t layer = 0; layer < reduced_.size(0); ++layer) {
    sum.add_(share(layer).mul(reduced_[layer][1]).sum());
  }
  return sum;
}

at::Tensor RoutingRecord::assignments() const { return reduced_.select(1, 0).sum(1); }

}  // namespace caravan::model
