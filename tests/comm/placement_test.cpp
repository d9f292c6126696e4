// SPDX-License-Identifier: Apache-2.0
// Ranks that were dealt out to nodes like cards: those of a node must end up side by side.
#include <mpi.h>

#include "comm/mpi_runtime.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {

TEST_CASE("Ranks of a node stand side by side, in their order", "[placement]") {
  int mpi_rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
  const int node = mpi_rank % 2;  // 0, 1, 0, 1, …: named after its lowest rank
  const auto world = make_world(60, node);

  std::vector<std::int64_t> started(static_cast<std::size_t>(world->size()));
  const std::int64_t mine = mpi_rank;
  world
      ->all_gather("ranks as started", &mine, started.data(), Communicator::Counts(started.size(), 1), core::DType::i64)
      .wait();
  std::vector<std::int64_t> wanted;
  for (int r = 0; r < world->size(); r += 2) wanted.push_back(r);
  for (int r = 1; r < world->size(); r += 2) wanted.push_back(r);
  CHECK(started == wanted);
  CHECK((world->rank() == 0) == (mpi_rank == 0));

  // The groups of a grid over that world: TP inside the nodes.
  layout::Options options;
  options.tp = world->size() > 2 ? 2 : 1;
  const Groups groups = make_groups(layout::Grid(world->size(), world->rank(), options), 60);
  CHECK(groups.world->rank() == world->rank());
  CHECK(groups.tp->all_reduce("node", static_cast<double>(node), Reduce::sum) == node * groups.tp->size());
}

TEST_CASE("All ranks of this machine are on one node", "[placement]") { CHECK(node_of_this_rank() == 0); }

}  // namespace caravan::comm
