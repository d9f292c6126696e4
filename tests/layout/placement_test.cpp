// SPDX-License-Identifier: Apache-2.0
#include "layout/placement.hpp"

#include "tests/support/catch.hpp"

namespace caravan::layout {
namespace {

Placement place(int world, std::int64_t tp, std::int64_t ep, const std::vector<int>& nodes) {
  Options options;
  options.tp = tp;
  options.ep = ep;
  return placement_of(Grid(world, 0, options), nodes);
}

}  // namespace

TEST_CASE("Groups that fit a node stay inside it", "[placement]") {
  // TP 2 and EP 4 on two nodes of four ranks: {0,1},{2,3}… and {0,1,2,3},{4,5,6,7}.
  const Placement placement = place(8, 2, 4, {0, 0, 0, 0, 4, 4, 4, 4});
  CHECK(placement.nodes == 2);
  CHECK(placement.tp_span == 1);
  CHECK(placement.ep_span == 1);
  CHECK(describe(placement) == "2 nodes; TP groups stay inside a node, EP groups stay inside a node");
}

TEST_CASE("The widest group counts", "[placement]") {
  // Nodes of 3 and 5 ranks: the TP group {2,3} lies on both, and so does the EP group of all.
  const Placement placement = place(8, 2, 8, {0, 0, 0, 3, 3, 3, 3, 3});
  CHECK(placement.tp_span == 2);
  CHECK(placement.ep_span == 2);
  CHECK(place(8, 1, 8, {0, 1, 2, 3, 4, 5, 6, 7}).ep_span == 8);
  CHECK(describe(place(8, 4, 8, {0, 0, 2, 2, 4, 4, 6, 6})) ==
        "4 nodes; TP groups span 2 nodes, EP groups span 4 nodes");
}

TEST_CASE("One node needs no more words", "[placement]") { CHECK(describe(place(4, 2, 2, {0, 0, 0, 0})) == "1 node"); }

}  // namespace caravan::layout
