// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "layout/grid.hpp"

namespace caravan::layout {

/// Over how many nodes the widest group spreads. node_of_rank: one name per rank, equal on ranks of the same node.
struct Placement {
  int nodes = 1;
  int tp_span = 1;
  int ep_span = 1;
};
Placement placement_of(const Grid& grid, const std::vector<int>& node_of_rank);

/// "4 nodes; TP groups stay inside a node, EP groups span 2 nodes".
std::string describe(const Placement& placement);

}  // namespace caravan::layout
