// SPDX-License-Identifier: Apache-2.0
#include "parallel/expert_exchange.hpp"

#include <numeric>

#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

comm::Communicator::Counts times(const std::vector<std::int64_t>& rows, std::int64_t width) {
  comm::Communicator::Counts counts = rows;
  for (std::int64_t& count : counts) count *= width;
  return counts;
}

at::Tensor exchange(comm::Communicator& group, const char* operation, const at::Tensor& rows,
                    const std::vector<std::int64_t>& send, const std::vector<std::int64_t>& receive) {
  auto sizes = rows.sizes().vec();
  const std::int64_t width = std::accumulate(sizes.begin() + 1, sizes.end(), std::int64_t{1}, std::multiplies<>());
  sizes[0] = std::accumulate(receive.begin(), receive.end(), std::int64_t{0});
  at::Tensor arrived = at::empty(sizes, rows.options());
  const at::Tensor leaving = rows.contiguous();
  group
      .all_to_all(operation, leaving.const_data_ptr(), times(send, width), arrived.data_ptr(), times(receive, width),
                  dtype_of(rows.scalar_type()), stream_of(rows))
      .wait();
  return arrived;
}

}  // namespace

ExpertExchange::ExpertExchange(const Context& context, const at::Tensor& counts) : context_(context) {
  const auto ranks = static_cast<std::size_t>(context.grid.ep());
  const std::size_t experts = static_cast<std::size_t>(counts.size(0)) / ranks;  // per rank
  const std::int64_t* mine = counts.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> theirs(mine, mine + counts.size(0));  // [rank][local expert]
  if (ranks > 1) {
    const comm::Communicator::Counts each(ranks, static_cast<std::int64_t>(experts));
    context.groups.ep->all_to_all("exchange expert counts", mine, each, theirs.data(), each, core::DType::i64).wait();
  }
  expert_rows_.assign(experts, 0);
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto at = static_cast<std::ptrdiff_t>(r * experts);
    const auto width = static_cast<std::ptrdiff_t>(experts);
    send_.push_back(std::accumulate(mine + at, mine + at + width, std::int64_t{0}));
    receive_.push_back(std::accumulate(theirs.begin() + at, theirs.begin() + at + width, std::int64_t{0}));
    for (std::size_t e = 0; e < experts; ++e) expert_rows_[e] += theirs[r * experts + e];
  }
  received_ = std::accumulate(receive_.begin(), receive_.end(), std::int64_t{0});
  if (ranks == 1) return;
  // Rows arrive by rank and, within a rank, by expert; the experts want them by expert and, within one, by rank.
  to_expert_order_ = at::empty({received_}, at::kLong);
  to_rank_order_ = at::empty({received_}, at::kLong);
  std::vector<std::int64_t> begin(ranks * experts);
  std::exclusive_scan(theirs.begin(), theirs.end(), begin.begin(), std::int64_t{0});
  std::int64_t place = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    for (std::size_t r = 0; r < ranks; ++r) {
      for (std::int64_t i = 0; i < theirs[r * experts + e]; ++i, ++place) {
        const std::int64_t arrived = begin[r * experts + e] + i;
        to_expert_order_.data_ptr<std::int64_t>()[place] = arrived;
        to_rank_order_.data_ptr<std::int64_t>()[arrived] = place;
      }
    }
  }
  to_expert_order_ = to_expert_order_.to(context.device);
  to_rank_order_ = to_rank_order_.to(context.device);
}

at::Tensor ExpertExchange::dispatch(const char* operation, const at::Tensor& rows) const {
  if (!to_expert_order_.defined()) return rows;
  return exchange(*context_.groups.ep, operation, rows, send_, receive_).index_select(0, to_expert_order_);
}

at::Tensor ExpertExchange::collect(const char* operation, const at::Tensor& rows) const {
  if (!to_rank_order_.defined()) return rows;
  return exchange(*context_.groups.ep, operation, rows.index_select(0, to_rank_order_), receive_, send_);
}

}  // namespace caravan::parallel
