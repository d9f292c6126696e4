// SPDX-License-Identifier: Apache-2.0
#include "train/context.hpp"

namespace caravan::train {

parallel::Context make_context(const layout::Grid& grid, comm::Groups& groups, const Options& options) {
  return {grid, groups, at::kCPU, options.precision == "bf16" ? at::kBFloat16 : at::kFloat, options.exchange_mib << 20};
}

}  // namespace caravan::train
