// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"

namespace caravan::comm {

/// Reduces `ranks` arrays of `count` elements, laid one after another at `parts` in rank order, into `result`: always
/// in rank order, in fp32 for f32 and bf16 (rounded once, at the end), in fp64 for f64. `result` does not overlap
/// `parts`.
void reduce_in_rank_order(const void* parts, int ranks, std::int64_t count, core::DType dtype, Reduce reduce,
                          void* result);

}  // namespace caravan::comm
