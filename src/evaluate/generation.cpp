// SPDX-License-Identifier: Apache-2.0
#include "evaluate/generation.hpp"

#include <ATen/core/grad_mode.h>

#include <numeric>

#include "core/random.hpp"

namespace caravan::evaluate {
namespace {

/// The logits' largest entry after the last token of a text.
std::int64_t next_token(const parallel::Context& context, const model::Decoder& decoder,
                        const std::vector<std::int32_t>& text) {
  const std::size_t length = text.size();
  std::vector<std::int32_t> positions(length), sequence(length, 0);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<std::uint64_t> identity(length);
  for (std::size_t t = 0; t < length; ++t) identity[t] = core::token_identity(0, static_cast<std::uint32_t>(t));
  const std::vector<std::int64_t> starts{0, static_cast<std::int64_t>(length)};
  const parallel::TokenAxis axis({text, positions, sequence, identity, starts}, context);
  const model::Pass pass{axis};
  const at::Tensor last = at::full({1}, axis.real - 1, at::TensorOptions(at::kLong).device(context.device));
  const std::int64_t choice = decoder.logits(decoder.forward(pass), last).argmax(1).item<std::int64_t>();
  // Ranks that add up experts' outputs elsewhere may differ in the last bit, and so in a near tie.
  std::int64_t agreed = choice;
  context.groups.world->broadcast("agree on the next token", &agreed, 1, core::DType::i64, 0).wait();
  return agreed;
}

}  // namespace

std::vector<std::int32_t> generate_greedily(const parallel::Context& context, const model::Decoder& decoder,
                                            std::vector<std::int32_t> prompt, std::int64_t most, std::int32_t end,
                                            const std::function<bool()>& stop) {
  const at::NoGradGuard no_grad;
  std::vector<std::int32_t> answer;
  while (static_cast<std::int64_t>(answer.size()) < most) {
    if (stop && stop()) break;
    const auto token = static_cast<std::int32_t>(next_token(context, decoder, prompt));
    if (token == end) break;
    answer.push_back(token);
    prompt.push_back(token);
  }
  return answer;
}

}  // namespace caravan::evaluate
