// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "layout/parameter_spec.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::parallel {

/// A tensor to load, and where this rank's slice of it goes.
struct BaseTensor {
  const layout::ParameterSpec& spec;  // of at least one dimension
  void* slice;                        // room for layout::slice_of(spec, grid), row-major in the loaded element type
};

/// Bytes of the send buffer, and of the receive buffer, of a rank that loads: long enough that latencies do not count.
constexpr std::int64_t base_buffer_bytes = std::int64_t{64} << 20;

/// Fills this rank's slices of all tensors with elements of `dtype`; the job reads every element from the source once.
/// The rows (indices along dimension 0) of all tensors in order are shared out over the ranks of the world in
/// consecutive runs of about equal size. In rounds, every rank reads the next rows of its run, up to buffer_bytes /
/// world, and one all-to-all carries them to the ranks whose slices they touch. A slice that has the rows whole is read
/// into directly; so a world of one copies nothing. Memory beside the slices: a send and a receive buffer of at most
/// buffer_bytes each and a read buffer of at most buffer_bytes / world. A row that is longer than buffer_bytes / world
/// counts with its own length instead.
/// Collective over the world; tensors are the same on all ranks, but for their addresses. When a rank cannot read, all
/// throw comm::AgreedError with the source's message, and slices are undefined.
void load_base(comm::Communicator& world, const layout::Grid& grid, const layout::TensorSource& source,
               core::DType dtype, const std::vector<BaseTensor>& tensors,
               std::int64_t buffer_bytes = base_buffer_bytes);

}  // namespace caravan::parallel
