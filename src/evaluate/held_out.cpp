// SPDX-License-Identifier: Apache-2.0
#include "evaluate/held_out.hpp"

#include <ATen/core/grad_mode.h>

#include "data/batches.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::evaluate {

std::optional<HeldOutLoss> held_out_loss(const parallel::Context& context, const model::Decoder& decoder,
                                         const data::PackedFile& file, const HeldOutWork& work) {
  const at::NoGradGuard no_grad;
  data::Batches batches(file, {.seed = 0,
                               .shuffle = false,
                               .batch = work.micro_batch * context.grid.dp(),
                               .micro_batch = work.micro_batch,
                               .dp_size = context.grid.dp()});
  HeldOutLoss result;
  result.sequences = scored_sequences(file, work.samples);
  for (std::int64_t s = 0; s < result.sequences; ++s) result.targets += file.targets(s);
  at::Tensor sums = at::zeros({}, at::TensorOptions(at::kDouble).device(context.device));
  data::Position position;
  while (position.epoch == 0 && position.index < result.sequences) {
    if (work.stop && work.stop()) return std::nullopt;
    const std::int64_t left = result.sequences - position.index;
    data::GlobalBatch global = batches.next(position);
    if (static_cast<std::int64_t>(global.samples.size()) > left) {
      global.samples.resize(static_cast<std::size_t>(left));
      position.index = result.sequences;
    }
    const data::TokenBatch batch = batches.micro_batch(global, 0, context.grid.dp_rank());
    const parallel::TokenAxis axis(parallel::token_rows(batch), context);
    const model::Pass pass{axis};
    sums.add_(decoder.loss(decoder.forward(pass), axis.targets_of(batch.targets), 1.0).sum);
  }
  const double sum =
      context.groups.dp->all_reduce("sum held-out loss", parallel::to_host(sums).item<double>(), comm::Reduce::sum);
  result.loss = result.targets > 0 ? sum / static_cast<double>(result.targets) : 0.0;
  return result;
}

}  // namespace caravan::evaluate
