// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "comm/communicator.hpp"

// Collectives on tensors, without autograd: backward passes call them too.
namespace caravan::parallel {

/// The element type as files and collectives name it. Throws (exit 70) on a type they do not know.
core::DType dtype_of(at::ScalarType type);
at::ScalarType scalar_type_of(core::DType dtype);

/// [n, …] on each rank → [n · size, …] on all, in rank order. A group of one returns its argument.
at::Tensor gather_rows(comm::Communicator& group, const char* operation, const at::Tensor& rows);

/// [n · size, …] on each rank, partial sums → [n, …], this rank's rows of the sum, added in rank order in fp32 and
/// rounded once. A group of one returns its argument.
at::Tensor reduce_scatter_rows(comm::Communicator& group, const char* operation, const at::Tensor& rows);

/// In place, contiguous.
void all_reduce(comm::Communicator& group, const char* operation, at::Tensor& values, comm::Reduce reduce);

}  // namespace caravan::parallel
