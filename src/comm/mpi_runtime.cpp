// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_runtime.hpp"

#include <mpi.h>

#include <cstdlib>

#include "comm/mpi_group.hpp"
#include "core/error.hpp"

namespace caravan::comm {
namespace {

/// How many ranks the launcher says there are; 1 without a launcher. mpirun is asked before srun: from inside a batch
/// job it may start its daemons on the other nodes as a step of srun, whose tasks are not the ranks. Not SLURM_NTASKS,
/// which a batch script sees, too.
int launched_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* text = std::getenv(name)) return std::atoi(text);
  }
  return 1;
}

}  // namespace

MpiRuntime::MpiRuntime(int* argc, char*** argv) {
  const int launched = launched_ranks();
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided);
  if (provided < MPI_THREAD_SERIALIZED) {
    core::internal_error("this MPI library offers no MPI_THREAD_SERIALIZED; use one that was built with threads");
  }
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1 || launched <= 1) return;
  MPI_Finalize();
  core::bad_input(launched, " ranks were started, but each is alone: the launcher and ", library(),
                  ", with which this program was built, do not find each other; choose one of `srun --mpi=list` that "
                  "fits, or mpirun (in the job files: CARAVAN_LAUNCH, see slurm/site.example.env)");
}

MpiRuntime::~MpiRuntime() { MPI_Finalize(); }

void MpiRuntime::abort(int exit_code) const {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();
}

std::string MpiRuntime::library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string full(text, static_cast<std::size_t>(length));
  return full.substr(0, full.find_first_of(",\n"));
}

int node_of_this_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
  MPI_Bcast(&rank, 1, MPI_INT, 0, node);
  MPI_Comm_free(&node);
  return rank;
}

std::vector<int> node_of_each_rank(Communicator& world) {
  const std::int32_t mine = node_of_this_rank();
  std::vector<int> nodes(static_cast<std::size_t>(world.size()));
  world.all_gather("nodes of the ranks", &mine, nodes.data(), Communicator::Counts(nodes.size(), 1), core::DType::i32)
      .wait();
  return nodes;
}

std::unique_ptr<Communicator> make_world(double deadline_seconds) {
  return make_world(deadline_seconds, node_of_this_rank());
}

std::unique_ptr<Communicator> make_world(double deadline_seconds, int node) {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  // Ranks that pass the same number, here the node's, keep MPI's order.
  return make_mpi_group("world", 0, size, node, deadline_seconds);
}

Groups make_groups(const layout::Grid& grid, double deadline_seconds) {
  // The lowest member names the group: no other group of its kind has it.
  const auto group = [&](const char* name, const std::vector<int>& members) {
    return make_mpi_group(name, members.front(), static_cast<int>(members.size()), grid.rank(), deadline_seconds);
  };
  Groups groups;
  groups.world = make_mpi_group("world", 0, grid.world(), grid.rank(), deadline_seconds);
  groups.tp = group("tp", grid.tp_group());
  groups.dp = group("dp", grid.dp_group());
  groups.ep = group("ep", grid.ep_group());
  groups.edp = group("edp", grid.edp_group());
  return groups;
}

}  // namespace caravan::comm
