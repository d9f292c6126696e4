// SPDX-License-Identifier: Apache-2.0
#include "parallel/expert_exchange.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "parallel/collectives.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::parallel {
namespace {

std::int64_t sum_of(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

comm::Communicator::Counts times(const std::vector<std::int64_t>& rows, std::int64_t width) {
  comm::Communicator::Counts counts = rows;
  for (std::int64_t& count : counts) count *= width;
  return counts;
}

at::Tensor exchange(comm::Communicator& group, const char* operation, const at::Tensor& rows,
                    const std::vector<std::int64_t>& send, const std::vector<std::int64_t>& receive) {
  auto sizes = rows.sizes().vec();
  const std::int64_t width = std::accumulate(sizes.begin() + 1, sizes.end(), std::int64_t{1}, std::multiplies<>());
  sizes[0] = sum_of(receive);
  at::Tensor arrived = at::empty(sizes, rows.options());
  const at::Tensor leaving = rows.contiguous();
  group
      .all_to_all(operation, leaving.const_data_ptr(), times(send, width), arrived.data_ptr(), times(receive, width),
                  dtype_of(rows.scalar_type()), place_of(rows))
      .wait();
  return arrived;
}

at::Tensor index_of(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

}  // namespace

/// Slots of every rank of the group for every expert, and how they are cut into rounds.
class ExchangePlan {
 public:
  ExchangePlan(const Context& context, const at::Tensor& counts, std::int64_t most_rows)
      : device_(context.device),
        group_(*context.groups.ep),
        ranks_(static_cast<std::size_t>(context.grid.ep())),
        me_(static_cast<std::size_t>(context.grid.ep_rank())),
        experts_(static_cast<std::size_t>(counts.size(0))),
        local_(experts_ / ranks_),
        slots_(ranks_ * experts_) {
    CARAVAN_CHECK(most_rows > 0, "an exchange of ", most_rows, " rows at a time");
    const std::int64_t* mine = counts.const_data_ptr<std::int64_t>();
    if (ranks_ == 1) {
      std::copy_n(mine, experts_, slots_.begin());
      return;
    }
    const comm::Communicator::Counts each(ranks_, counts.size(0));
    group_.all_gather("gather expert counts", mine, slots_.data(), each, core::DType::i64).wait();
    for (std::size_t owner = 0; owner < ranks_; ++owner) {
      std::int64_t received = 0;
      for (std::size_t r = 0; r < ranks_; ++r) {
        for (std::size_t e = owner * local_; e < (owner + 1) * local_; ++e) received += slots_[r * experts_ + e];
      }
      rounds_ = std::max(rounds_, (received + most_rows - 1) / most_rows);
    }
  }

  std::int64_t rounds() const { return rounds_; }

  ExchangeRound round(std::int64_t i) const {
    ExchangeRound round;
    round.send_.assign(ranks_, 0);
    round.receive_.assign(ranks_, 0);
    round.expert_rows_.assign(local_, 0);
    for (std::size_t e = 0; e < experts_; ++e) round.send_[e / local_] += rows(me_, e, i);
    for (std::size_t r = 0; r < ranks_; ++r) {
      for (std::size_t e = 0; e < local_; ++e) {
        round.receive_[r] += rows(r, me_ * local_ + e, i);
        round.expert_rows_[e] += rows(r, me_ * local_ + e, i);
      }
    }
    round.received_ = sum_of(round.receive_);
    if (ranks_ == 1) return round;
    round.group_ = &group_;
    order(i, round);
    if (rounds_ > 1) choose_slots(i, round);
    return round;
  }

 private:
  /// Slots of a (rank, expert) pair before round i.
  std::int64_t before(std::size_t rank, std::size_t expert, std::int64_t i) const {
    return slots_[rank * experts_ + expert] * i / rounds_;
  }
  std::int64_t rows(std::size_t rank, std::size_t expert, std::int64_t i) const {
    return before(rank, expert, i + 1) - before(rank, expert, i);
  }

  /// Rows arrive by rank and, within a rank, by expert; the experts want them by expert and, within one, by rank.
  void order(std::int64_t i, ExchangeRound& round) const {
    std::vector<std::int64_t> begin(ranks_ * local_);
    std::int64_t arrived = 0;
    for (std::size_t at = 0; at < begin.size(); ++at) {
      begin[at] = arrived;
      arrived += rows(at / local_, me_ * local_ + at % local_, i);
    }
    std::vector<std::int64_t> to_expert, to_rank(static_cast<std::size_t>(arrived));
    for (std::size_t e = 0; e < local_; ++e) {
      for (std::size_t r = 0; r < ranks_; ++r) {
        const std::int64_t count = rows(r, me_ * local_ + e, i);
        for (std::int64_t from = begin[r * local_ + e], last = from + count; from < last; ++from) {
          to_rank[static_cast<std::size_t>(from)] = static_cast<std::int64_t>(to_expert.size());
          to_expert.push_back(from);
        }
      }
    }
    round.to_expert_order_ = index_of(to_expert, device_);
    round.to_rank_order_ = index_of(to_rank, device_);
  }

  void choose_slots(std::int64_t i, ExchangeRound& round) const {
    std::vector<std::int64_t> chosen;
    std::int64_t begin = 0;
    for (std::size_t e = 0; e < experts_; ++e) {
      for (std::int64_t s = before(me_, e, i); s < before(me_, e, i + 1); ++s) chosen.push_back(begin + s);
      begin += slots_[me_ * experts_ + e];
    }
    round.slots_ = index_of(chosen, device_);
    round.all_slots_ = begin;
  }

  at::Device device_;
  comm::Communicator& group_;
  std::size_t ranks_, me_, experts_, local_;  // local: experts per rank
  std::vector<std::int64_t> slots_;           // [rank][expert]
  std::int64_t rounds_ = 1;
};

std::vector<ExchangeRound> plan_exchange(const Context& context, const at::Tensor& counts, std::int64_t most_rows) {
  const ExchangePlan plan(context, counts, most_rows);
  std::vector<ExchangeRound> rounds;
  for (std::int64_t i = 0; i < plan.rounds(); ++i) rounds.push_back(plan.round(i));
  return rounds;
}

at::Tensor ExchangeRound::dispatch(const char* operation, const at::Tensor& rows) const {
  if (!group_) return rows;
  return exchange(*group_, operation, rows, send_, receive_).index_select(0, to_expert_order_);
}

at::Tensor ExchangeRound::collect(const char* operation, const at::Tensor& rows) const {
  if (!group_) return rows;
  return exchange(*group_, operation, rows.index_select(0, to_rank_order_), receive_, send_);
}

at::Tensor ExchangeRound::part_of(const at::Tensor& all_slots) const {
  return slots_.defined() ? all_slots.index_select(0, slots_) : all_slots;
}

void ExchangeRound::put(at::Tensor& all_slots, const at::Tensor& rows) const {
  if (!slots_.defined()) {
    all_slots = rows;
    return;
  }
  if (!all_slots.defined()) {
    auto sizes = rows.sizes().vec();
    sizes[0] = all_slots_;
    all_slots = at::empty(sizes, rows.options());
  }
  all_slots.index_copy_(0, slots_, rows);
}

}  // namespace caravan::parallel
