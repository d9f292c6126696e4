// SPDX-License-Identifier: Apache-2.0
#include "layout/grid.hpp"

#include "core/error.hpp"

namespace caravan::layout {
namespace {

std::vector<int> arithmetic(int first, int step, int count) {
  std::vector<int> members;
  members.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) members.push_back(first + i * step);
  return members;
}

}  // namespace

Grid::Grid(int world, int rank, const Options& options)
    : world_(world), rank_(rank), tp_(static_cast<int>(options.tp)), ep_(static_cast<int>(options.ep)) {
  CARAVAN_CHECK(rank >= 0 && rank < world);
  for (const std::int64_t parts : {options.tp, options.ep}) {
    CARAVAN_CHECK(parts > 0 && world % parts == 0, parts, " parts of ", world, " ranks");
  }
}

std::vector<int> Grid::tp_group() const { return arithmetic(rank_ - tp_rank(), 1, tp_); }
std::vector<int> Grid::dp_group() const { return arithmetic(tp_rank(), tp_, dp()); }
std::vector<int> Grid::ep_group() const { return arithmetic(rank_ - ep_rank(), 1, ep_); }
std::vector<int> Grid::edp_group() const { return arithmetic(ep_rank(), ep_, edp()); }

Grid Grid::at(int rank) const {
  Grid other = *this;
  other.rank_ = rank;
  return other;
}

std::string Grid::describe() const {
  return core::concat(world_, world_ == 1 ? " rank" : " ranks", ": TP ", tp_, " × DP ", dp(), ", EP ", ep_, " × EDP ",
                      edp());
}

}  // namespace caravan::layout
