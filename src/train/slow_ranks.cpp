// SPDX-License-Identifier: Apache-2.0
#include "train/slow_ranks.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/host_name.hpp"
#include "core/log.hpp"

namespace caravan::train {
namespace {

constexpr double worth_a_line = 0.1;  // of the time
constexpr std::size_t most_lines = 4;

}  // namespace

std::vector<SlowRank> by_slowness(const std::vector<double>& waited, double seconds) {
  std::vector<double> sorted = waited;
  std::sort(sorted.begin(), sorted.end());
  const double usual = sorted[sorted.size() / 2];
  std::vector<SlowRank> ranks;
  for (std::size_t rank = 0; rank < waited.size(); ++rank) {
    ranks.push_back({static_cast<int>(rank), std::max(0.0, usual - waited[rank]) / seconds});
  }
  std::stable_sort(ranks.begin(), ranks.end(), [](const SlowRank& a, const SlowRank& b) { return a.share > b.share; });
  return ranks;
}

SlowRanks::SlowRanks(const comm::Groups& groups, std::int64_t every)
    : groups_(groups),
      every_(every),
      hosts_(groups.world->all_gather_text("host names", core::host_name())),
      waited_(waited()),
      since_(Clock::now()) {}

double SlowRanks::waited() const {
  double sum = 0;
  for (const auto* group : {&groups_.world, &groups_.tp, &groups_.dp, &groups_.ep, &groups_.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) sum += traffic.waited;
  }
  return sum;
}

std::optional<SlowRank> SlowRanks::after_step(std::int64_t step) {
  ++steps_;
  comm::Communicator& world = *groups_.world;
  if (step % every_ != 0 || world.size() == 1) return std::nullopt;
  const auto now = Clock::now();
  double mine[2] = {waited() - waited_, std::chrono::duration<double>(now - since_).count()};
  std::vector<double> all(2 * static_cast<std::size_t>(world.size()));
  world.all_gather("compare waiting", mine, all.data(), comm::Communicator::Counts(hosts_.size(), 2), core::DType::f64)
      .wait();
  std::vector<double> waited_by_rank;
  for (std::size_t i = 0; i < all.size(); i += 2) waited_by_rank.push_back(all[i]);
  const double seconds = std::max(1e-9, all[1]);  // rank 0's, so that all ranks come to the same result
  const std::vector<SlowRank> slow = by_slowness(waited_by_rank, seconds);
  for (std::size_t i = 0; i < std::min(most_lines, slow.size()) && slow[i].share > worth_a_line; ++i) {
    core::log_warning(core::concat("rank ", slow[i].rank, " (host ", hosts_[static_cast<std::size_t>(slow[i].rank)],
                                   ") is slow: the others waited ", std::lround(100 * slow[i].share), " % of the last ",
                                   steps_, steps_ == 1 ? " step" : " steps", " for it"));
  }
  steps_ = 0;
  waited_ = waited();
  since_ = Clock::now();
  return slow.front();
}

}  // namespace caravan::train
