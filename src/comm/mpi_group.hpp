// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.hpp"
#include "comm/mpi_transport.hpp"

namespace caravan::comm {

/// Splits MPI_COMM_WORLD: the ranks that pass the same color form a group of `size`, in the order of `place`, those of
/// equal place in MPI's order. Collective over the world. A group of one needs no MPI afterwards.
/// longest_message: see make_mpi_transport.
std::unique_ptr<Communicator> make_mpi_group(std::string name, int color, int size, int place, double deadline_seconds,
                                             std::int64_t longest_message = longest_mpi_message);

}  // namespace caravan::comm
