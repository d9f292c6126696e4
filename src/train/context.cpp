// SPDX-License-Identifier: Apache-2.0
#include "train/context.hpp"

#include "core/error.hpp"

namespace caravan::train {
namespace {

at::ScalarType compute_type(Precision precision) {
  switch (precision) {
    case Precision::bf16: return at::kBFloat16;
    case Precision::fp32: return at::kFloat;
  }
  core::internal_error("no precision ", static_cast<int>(precision));
}

}  // namespace

parallel::Context make_context(const layout::Grid& grid, comm::Groups& groups, const Options& options) {
  return {grid, groups, at::kCPU, compute_type(options.precision), options.exchange_mib.bytes()};
}

}  // namespace caravan::train
