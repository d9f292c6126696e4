// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "data/batches.hpp"

namespace caravan::evaluate {

/// A text as a batch of one document without targets. number: of the text, for the identities of its tokens.
data::TokenBatch text_batch(const std::vector<std::int32_t>& text, std::uint64_t number);

}  // namespace caravan::evaluate
