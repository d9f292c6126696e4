// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.hpp"

namespace caravan::comm {

/// Splits MPI_COMM_WORLD: the ranks that pass the same color form a group of `size`, in the order of `place`, those of
/// equal place in MPI's order. Collective over the world. A group of one needs no MPI afterwards.
std::unique_ptr<Communicator> make_mpi_group(std::string name, int color, int size, int place, double deadline_seconds);

}  // namespace caravan::comm
