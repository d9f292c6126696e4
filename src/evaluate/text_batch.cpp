// SPDX-License-Identifier: Apache-2.0
#include "evaluate/text_batch.hpp"

#include "core/random.hpp"

namespace caravan::evaluate {

data::TokenBatch text_batch(const std::vector<std::int32_t>& text, std::uint64_t number) {
  data::TokenBatch batch;
  batch.tokens = text;
  for (std::size_t t = 0; t < text.size(); ++t) {
    batch.positions.push_back(static_cast<std::int32_t>(t));
    batch.sequence.push_back(0);
    batch.identity.push_back(core::token_identity(number, static_cast<std::uint32_t>(t)));
  }
  batch.document_starts.push_back(static_cast<std::int64_t>(text.size()));
  return batch;
}

}  // namespace caravan::evaluate
