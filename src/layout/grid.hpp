// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layout/options.hpp"

namespace caravan::layout {

/// Two grids over the same ranks (Megatron's parallel folding), as integers. Dense grid: world = DP × TP, TP fastest.
/// Expert grid: world = EDP × EP, EP fastest. EP need not divide TP or be divided by it.
class Grid {
 public:
  /// tp and ep divide the world: a user's layout is checked, against the model too, before it gets here.
  Grid(int world, int rank, const Options& options);

  int world() const { return world_; }
  int rank() const { return rank_; }
  int tp() const { return tp_; }
  int dp() const { return world_ / tp_; }
  int ep() const { return ep_; }
  int edp() const { return world_ / ep_; }
  int tp_rank() const { return rank_ % tp_; }
  int dp_rank() const { return rank_ / tp_; }
  int ep_rank() const { return rank_ % ep_; }
  int edp_rank() const { return rank_ / ep_; }

  /// Members of this rank's group, as world ranks in ascending order.
  std::vector<int> tp_group() const;
  std::vector<int> dp_group() const;
  std::vector<int> ep_group() const;
  std::vector<int> edp_group() const;

  /// The same grid seen from another rank.
  Grid at(int rank) const;

  /// "4 ranks: TP 2 × DP 2, EP 2 × EDP 2".
  std::string describe() const;

 private:
  int world_, rank_, tp_, ep_;
};

}  // namespace caravan::layout
