// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_runtime.hpp"

#include <mpi.h>

#include <cstdlib>

#include "comm/mpi_communicator.hpp"
#include "core/error.hpp"

namespace caravan::comm {
MpiRuntime::MpiRuntime(int* argc, char*** argv) {
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided);
  if (provided < MPI_THREAD_SERIALIZED) {
    core::internal_error("this MPI library offers no MPI_THREAD_SERIALIZED; use one that was built with threads");
  }
}

MpiRuntime::~MpiRuntime() { MPI_Finalize(); }

int MpiRuntime::world_rank() const {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int MpiRuntime::world_size() const {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

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

std::unique_ptr<Communicator> make_world(double deadline_seconds) {
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return make_mpi_group("world", 0, size, rank, deadline_seconds);
}

Groups make_groups(const layout::Grid& grid, double deadline_seconds) {
  // The lowest member names the group: no other group of its kind has it.
  const auto group = [&](const char* name, const std::vector<int>& members) {
    return make_mpi_group(name, members.front(), static_cast<int>(members.size()), grid.rank(), deadline_seconds);
  };
  Groups groups;
  groups.world = make_world(deadline_seconds);
  groups.tp = group("tp", grid.tp_group());
  groups.dp = group("dp", grid.dp_group());
  groups.ep = group("ep", grid.ep_group());
  groups.edp = group("edp", grid.edp_group());
  return groups;
}

}  // namespace caravan::comm
