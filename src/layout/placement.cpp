// SPDX-License-Identifier: Apache-2.0
#include "layout/placement.hpp"

#include <algorithm>
#include <set>

#include "core/error.hpp"

namespace caravan::layout {
namespace {

int nodes_of(const std::vector<int>& ranks, const std::vector<int>& node_of_rank) {
  std::set<int> nodes;
  for (const int rank : ranks) nodes.insert(node_of_rank.at(static_cast<std::size_t>(rank)));
  return static_cast<int>(nodes.size());
}

std::string reach(int span) {
  return span == 1 ? std::string("stay inside a node") : core::concat("span ", span, " nodes");
}

}  // namespace

Placement placement_of(const Grid& grid, const std::vector<int>& node_of_rank) {
  CARAVAN_CHECK(node_of_rank.size() == static_cast<std::size_t>(grid.world()));
  Placement placement;
  placement.nodes = static_cast<int>(std::set<int>(node_of_rank.begin(), node_of_rank.end()).size());
  for (int rank = 0; rank < grid.world(); ++rank) {
    const Grid there = grid.at(rank);
    placement.tp_span = std::max(placement.tp_span, nodes_of(there.tp_group(), node_of_rank));
    placement.ep_span = std::max(placement.ep_span, nodes_of(there.ep_group(), node_of_rank));
  }
  return placement;
}

std::string describe(const Placement& placement) {
  if (placement.nodes == 1) return "1 node";
  return core::concat(placement.nodes, " nodes; TP groups ", reach(placement.tp_span), ", EP groups ",
                      reach(placement.ep_span));
}

}  // namespace caravan::layout
