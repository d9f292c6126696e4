// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "parallel/context.hpp"
#include "train/options.hpp"

namespace caravan::train {

/// What everything on this rank computes with, in training and elsewhere, by train.precision and train.exchange_mib.
/// `groups` outlives it.
parallel::Context make_context(const layout::Grid& grid, comm::Groups& groups, const Options& options);

}  // namespace caravan::train
