// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_group.hpp"

#include <mpi.h>
#include <unistd.h>

#include "comm/front.hpp"
#include "core/error.hpp"
#include "watch/activity.hpp"

namespace caravan::comm {
namespace {

/// Collective over the world.
bool more_ranks_than_cores() {
  MPI_Comm node = MPI_COMM_NULL;
  int ranks = 1;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &ranks);
  MPI_Comm_free(&node);
  return ranks > sysconf(_SC_NPROCESSORS_ONLN);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_group(std::string name, int color, int size, int place, double deadline_seconds,
                                             std::int64_t longest_message) {
  static const bool crowded = more_ranks_than_cores();  // all ranks make their first group together
  static int made = 0;                                  // and every other one: its number is the same on all
  const int id = made++;
  auto transport = make_mpi_transport(color, place, longest_message);
  if (size == 1) return make_serial_communicator(std::move(name));
  CARAVAN_CHECK(transport->size() == size, name);
  const int slot = watch::activity().add_group(name, id, color);
  return std::make_unique<Front>(std::move(name), std::move(transport),
                                 Front::Waiting{deadline_seconds, crowded, slot});
}

}  // namespace caravan::comm
