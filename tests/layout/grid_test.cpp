// SPDX-License-Identifier: Apache-2.0
#include "layout/grid.hpp"

#include <set>

#include "core/error.hpp"
#include "tests/support/catch.hpp"

using caravan::layout::Grid;
using Members = std::vector<int>;

TEST_CASE("16 ranks, TP 2, EP 4: the groups of Megatron's parallel folding") {
  const Grid grid(16, 0, {2, 4});
  CHECK((grid.dp() == 8 && grid.edp() == 4));
  CHECK(grid.tp_group() == Members{0, 1});
  CHECK(grid.dp_group() == Members{0, 2, 4, 6, 8, 10, 12, 14});
  CHECK(grid.ep_group() == Members{0, 1, 2, 3});
  CHECK(grid.edp_group() == Members{0, 4, 8, 12});
  const Grid seven = grid.at(7);
  CHECK(seven.tp_group() == Members{6, 7});
  CHECK(seven.dp_group() == Members{1, 3, 5, 7, 9, 11, 13, 15});
  CHECK(seven.ep_group() == Members{4, 5, 6, 7});
  CHECK(seven.edp_group() == Members{3, 7, 11, 15});
  CHECK(grid.describe() == "16 ranks: TP 2 × DP 8, EP 4 × EDP 4");
}

TEST_CASE("each kind of group cuts the world into equal parts where ranks know their place") {
  for (const int world : {1, 2, 6, 12, 16}) {
    for (int tp = 1; tp <= world; ++tp) {
      for (int ep = 1; ep <= world; ++ep) {
        if (world % tp != 0 || world % ep != 0) continue;
        using Group = Members (Grid::*)() const;
        using Place = int (Grid::*)() const;
        const std::vector<std::pair<Group, Place>> kinds{{&Grid::tp_group, &Grid::tp_rank},
                                                         {&Grid::dp_group, &Grid::dp_rank},
                                                         {&Grid::ep_group, &Grid::ep_rank},
                                                         {&Grid::edp_group, &Grid::edp_rank}};
        for (const auto& [group, place] : kinds) {
          std::set<Members> groups;
          std::size_t members = 0;
          for (int rank = 0; rank < world; ++rank) {
            const Grid grid(world, rank, {tp, ep});
            const Members mine = (grid.*group)();
            CHECK(mine.at(static_cast<std::size_t>((grid.*place)())) == rank);
            if (groups.insert(mine).second) members += mine.size();
          }
          CHECK(members == static_cast<std::size_t>(world));  // disjoint, and all of them
        }
      }
    }
  }
}

TEST_CASE("numbers that do not divide the ranks never become a grid") {
  const auto ends_with = [](int rank, std::int64_t tp, std::int64_t ep) {
    try {
      const Grid grid(12, rank, {tp, ep});
    } catch (const caravan::core::Error& error) {
      return error.code();
    }
    return caravan::core::ExitCode::done;
  };
  CHECK(ends_with(11, 4, 6) == caravan::core::ExitCode::done);
  CHECK(ends_with(12, 4, 6) == caravan::core::ExitCode::internal);
  for (const std::int64_t wrong : {-1, 0, 5, 24}) {
    CHECK(ends_with(0, wrong, 1) == caravan::core::ExitCode::internal);
    CHECK(ends_with(0, 1, wrong) == caravan::core::ExitCode::internal);
  }
}
