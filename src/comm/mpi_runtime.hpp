// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "layout/grid.hpp"

namespace caravan::comm {

/// MPI from MPI_Init_thread to MPI_Finalize. One in a process, in main, outermost. Throws (exit 70) when the library
/// offers less than MPI_THREAD_SERIALIZED: LibTorch may run backward, and with it collectives, in a thread of its own.
/// Throws (exit 2) when a launcher started several ranks, and each finds itself alone: all would write the same files.
class MpiRuntime {
 public:
  MpiRuntime(int* argc, char*** argv);
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  /// Ends every rank of the job with this exit code. Unwinding on one rank alone would leave the others in collectives
  /// that never end.
  [[noreturn]] void abort(int exit_code) const;

  /// "Open MPI v4.1.4".
  static std::string library();
};

/// The groups of one rank. `world` has every rank; the others are described in layout/grid.hpp.
struct Groups {
  std::unique_ptr<Communicator> world, tp, dp, ep, edp;
};

/// This rank's node, as the lowest MPI rank on it: ranks of a node share memory. Collective over MPI_COMM_WORLD.
int node_of_this_rank();
/// The same of all ranks of make_world, in their order. Collective over MPI_COMM_WORLD.
std::vector<int> node_of_each_rank(Communicator& world);

/// All ranks, those of a node side by side whatever order they were started in, so that TP groups, then EP groups, stay
/// inside nodes. MPI's rank 0 is rank 0. Collective over MPI_COMM_WORLD. deadline_seconds: how long a collective may
/// take before the peers count as lost (exit 76).
std::unique_ptr<Communicator> make_world(double deadline_seconds);
std::unique_ptr<Communicator> make_world(double deadline_seconds, int node);

/// Makes this rank's groups. Collective over MPI_COMM_WORLD; `grid` has the ranks of make_world. Groups of one rank
/// need no MPI.
Groups make_groups(const layout::Grid& grid, double deadline_seconds);

}  // namespace caravan::comm
