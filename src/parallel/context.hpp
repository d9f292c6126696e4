// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "comm/mpi_runtime.hpp"
#include "layout/grid.hpp"

namespace caravan::parallel {

/// Where this rank stands and what it computes with; outlives everything that is built on it.
struct Context {
  layout::Grid grid;
  comm::Groups& groups;
  at::Device device = at::kCPU;
  at::ScalarType compute = at::kFloat;                  // fp32 or bf16: activations and the weights they meet
  std::int64_t exchange_bytes = std::int64_t{1} << 30;  // of rows that a rank's experts receive at a time
};

}  // namespace caravan::parallel
