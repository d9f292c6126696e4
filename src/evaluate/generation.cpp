// SPDX-License-Identifier: Apache-2.0
#include "evaluate/generation.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "evaluate/text_batch.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::evaluate {
namespace {

/// The logits' largest entry after the last token of a text.
std::int64_t next_token(const parallel::Context& context, const model::Decoder& decoder,
                        const std::vector<std::int32_t>& text) {
  const data::TokenBatch batch = text_batch(text, 0);
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis};
  const at::Tensor last = at::full({1}, axis.real - 1, at::TensorOptions(at::kLong).device(context.device));
  const at::Tensor most_likely = decoder.logits(decoder.forward(pass), last).argmax(1);
  const std::int64_t choice = parallel::to_host(most_likely).item<std::int64_t>();
  // Ranks that add up experts' outputs elsewhere may differ in the last bit, and so in a near tie.
  std::int64_t agreed = choice;
  context.groups.world->broadcast("agree on the next token", &agreed, 1, core::DType::i64, 0).wait();
  return agreed;
}

}  // namespace

std::vector<std::int32_t> generate_greedily(const parallel::Context& context, const model::Decoder& decoder,
                                            std::vector<std::int32_t> prompt, std::int64_t most,
                                            const std::vector<std::int32_t>& ends, const std::function<bool()>& stop) {
  const at::NoGradGuard no_grad;
  std::vector<std::int32_t> answer;
  while (static_cast<std::int64_t>(answer.size()) < most) {
    if (stop && stop()) break;
    const auto token = static_cast<std::int32_t>(next_token(context, decoder, prompt));
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
    answer.push_back(token);
    prompt.push_back(token);
  }
  return answer;
}

}  // namespace caravan::evaluate
