// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>

#include "data/packed_file.hpp"
#include "model/decoder.hpp"

namespace caravan::evaluate {

/// Mean cross-entropy per response token of held-out sequences, without dropout.
struct HeldOutLoss {
  double loss = 0;
  std::int64_t targets = 0;
  std::int64_t sequences = 0;
};

/// How many of the file's sequences are scored: its first ones.
inline std::int64_t scored_sequences(const data::PackedFile& file, std::int64_t samples) {
  return std::min(samples, file.sequences());
}

/// How much of the file is scored, and how much of it at once.
struct HeldOutWork {
  std::int64_t samples = 0;      // see scored_sequences
  std::int64_t micro_batch = 1;  // sequences at a time on each data-parallel rank
  std::function<bool()> stop{};  // asked before each forward pass; on all ranks alike
};

/// Scores sequences of the file; the result is the same on every rank. Collective: all ranks run the same number of
/// forward passes, some with nothing in them. None when work.stop said so.
std::optional<HeldOutLoss> held_out_loss(const parallel::Context& context, const model::Decoder& decoder,
                                         const data::PackedFile& file, const HeldOutWork& work);

}  // namespace caravan::evaluate
