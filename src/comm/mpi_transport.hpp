// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "comm/transport.hpp"

namespace caravan::comm {

/// Bytes of one MPI message at most: MPI counts elements with an int before version 4.
inline constexpr std::int64_t longest_mpi_message = std::int64_t{1} << 30;

/// Splits MPI_COMM_WORLD: the ranks that pass the same color form a group, in the order of `place`, those of equal
/// place in MPI's order. Collective over the world. What is longer than longest_message is moved in several messages;
/// the same on all ranks.
std::unique_ptr<Transport> make_mpi_transport(int color, int place, std::int64_t longest_message = longest_mpi_message);

}  // namespace caravan::comm
