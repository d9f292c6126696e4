// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"
#include "kernels/router.hpp"

namespace caravan::kernels {

/// Lets an expert take only the first assignments of each sequence, in the order of the tokens and, within a token, of
/// its choices. indices: [T, k], -1 on pads; sequence: [T], values in [-1, sequences), -1 on pads; limit: [S],
/// assignments of the sequence that an expert takes; taken: [S, E], assignments of the sequence's tokens before these
/// (whether they were within the limit or not), afterwards with these; kept: [T, k], indices, with -1 on pads and on
/// what is beyond the limit.
void keep_within_limit(Execution execution, const std::int32_t* indices, const std::int32_t* sequence,
                       RouterShape shape, std::int64_t sequences, const std::int64_t* limit, std::int64_t* taken,
                       std::int32_t* kept);

}  // namespace caravan::kernels
