// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.hpp"
#include "layout/grid.hpp"

namespace caravan::comm {

/// MPI from MPI_Init_thread to MPI_Finalize. One in a process, in main, outermost. Throws (exit 70) when the library
/// offers less than MPI_THREAD_SERIALIZED: LibTorch may run backward, and with it collectives, in a thread of its own.
class MpiRuntime {
 public:
  MpiRuntime(int* argc, char*** argv);
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int world_rank() const;
  int world_size() const;

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

/// Makes this rank's groups from MPI_COMM_WORLD; collective over the world. Groups of one rank need no MPI.
/// deadline_seconds: how long a collective may take before the peers count as lost (exit 76).
Groups make_groups(const layout::Grid& grid, double deadline_seconds);

/// The world alone, for what must happen before a layout is known.
std::unique_ptr<Communicator> make_world(double deadline_seconds);

}  // namespace caravan::comm
