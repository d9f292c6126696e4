// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "data/packed_file.hpp"
#include "model/decoder.hpp"

namespace caravan::evaluate {

/// Mean cross-entropy per response token of held-out sequences, without dropout.
struct HeldOutLoss {
  double loss = 0;
  std::int64_t targets = 0;
  std::int64_t sequences = 0;
};

/// Scores the first `samples` sequences of the file, `micro_batch` at a time on each data-parallel rank; the result is
/// the same on every rank. Collective: all ranks run the same number of forward passes, some with nothing in them.
HeldOutLoss held_out_loss(const parallel::Context& context, const model::Decoder& decoder, const data::PackedFile& file,
                          std::int64_t samples, std::int64_t micro_batch);

}  // namespace caravan::evaluate
