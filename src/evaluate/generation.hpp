// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/decoder.hpp"

namespace caravan::evaluate {

/// The most likely continuation, token by token: at most `most` tokens, without the one of `ends` that stops it. Every
/// step runs the whole text again. Collective: all ranks get rank 0's choice, so they stop together. `stop`, where
/// there is one, is asked before each token, on all ranks alike, and ends the answer with a yes.
std::vector<std::int32_t> generate_greedily(const parallel::Context& context, const model::Decoder& decoder,
                                            std::vector<std::int32_t> prompt, std::int64_t most,
                                            const std::vector<std::int32_t>& ends,
                                            const std::function<bool()>& stop = {});

}  // namespace caravan::evaluate
