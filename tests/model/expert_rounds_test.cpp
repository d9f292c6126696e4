// SPDX-License-Identifier: Apache-2.0
// Rounds of the expert exchange against one round: what they change (memory) and what they do not (results).
#include "tests/layouts/step_cost.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

using model::Recompute;

struct Outcome {
  double loss = 0;
  std::vector<at::Tensor> gradients;  // this rank's, before the reduction
};

std::int64_t row_bytes(const family::ModelSpec& spec, const parallel::Context& context) {
  return spec.hidden * static_cast<std::int64_t>(c10::elementSize(context.compute));
}

/// Forward and backward of a whole model; the last data-parallel rank has no tokens if there are several.
Outcome run(parallel::Context context, std::int64_t most_rows, Recompute recompute) {
  const family::ModelSpec spec = small_spec();
  if (most_rows > 0) context.exchange_bytes = most_rows * row_bytes(spec, context);
  RandomModel model(context, spec);
  const layout::Grid& grid = context.grid;
  const bool idle = grid.dp() > 1 && grid.dp_rank() == grid.dp() - 1;
  const data::TokenBatch batch =
      idle ? data::TokenBatch{} : random_batch({9, 4}, 10 * static_cast<std::uint64_t>(grid.dp_rank()), 40);
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis, {7, 0.1, 0.1}, nullptr, recompute};
  const parallel::TokenLoss loss = model.decoder->loss(model.decoder->forward(pass), axis.targets_of(batch.targets), 1);
  loss.loss.backward();
  Outcome outcome{loss.sum.item<double>(), {}};
  for (const parallel::Bucket& bucket : model.parameters.buckets())
    outcome.gradients.push_back(bucket.gradients.clone());
  return outcome;
}

/// Bytes of tensors that a mixture's forward and backward take on this rank, above what was there before.
struct Memory {
  std::int64_t kept = 0, peak = 0;
};

constexpr std::int64_t tokens = 64;  // of each rank

family::ModelSpec wide_spec() {
  family::ModelSpec spec = small_spec();
  spec.hidden = 256;
  spec.ffn = 32;
  spec.heads = spec.kv_heads = 4;
  return spec;
}

Memory memory_of(parallel::Context context, std::int64_t most_rows, Recompute recompute) {
  const family::ModelSpec spec = wide_spec();
  if (most_rows > 0) context.exchange_bytes = most_rows * row_bytes(spec, context);
  MemorySource source = random_parameters(family::parameter_specs(spec));
  // All tokens choose the experts of rank 0.
  source.tensors["model.layers.1.mlp.moe_adapter.router.weight"].narrow(0, 0, 2).select(1, 0).fill_(8);
  parallel::Parameters parameters(family::parameter_specs(spec), context);
  parameters.load_trainable(source);
  const model::ExpertMixture mixture(context, spec, 1, parameters);
  const data::TokenBatch batch = random_batch({tokens}, 0, 40);
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis, {7, 0, 0.1}, nullptr, recompute};
  at::Tensor x = noise({tokens, spec.hidden}, "x");
  x.select(1, 0).fill_(8);
  x.requires_grad_();
  const at::Tensor y = noise({tokens, spec.hidden}, "y").requires_grad_();
  TensorMemory& memory = TensorMemory::counting();
  const std::int64_t before = memory.live();
  memory.forget_peak();
  const at::Tensor out = mixture.forward(x, y, pass).value;
  Memory result{memory.live() - before, 0};
  out.sum().backward();
  result.peak = memory.peak() - before;
  return result;
}

}  // namespace

TEST_CASE("rounds change loss and gradients only by the order of sums, however recomputed") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    const OnGrid grid(tp, ep);
    const Outcome one = run(grid.context, 0, Recompute::none);
    const Outcome rounds = run(grid.context, 4, Recompute::none);
    CAPTURE(tp, ep);
    CHECK(rounds.loss == Approx(one.loss).epsilon(1e-6));
    REQUIRE(rounds.gradients.size() == one.gradients.size());
    for (std::size_t b = 0; b < one.gradients.size(); ++b) {
      // An expert's weight gradients are sums over rounds of sums over rows, and a product of few rows may add up in
      // another order than one of many: fp32 roundings of sums of order 10.
      CHECK(max_difference(rounds.gradients[b], one.gradients[b]) < 1e-5);
      if (ep == 1) CHECK(rounds.gradients[b].equal(one.gradients[b]));  // there are no rounds
    }
    for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
      const Outcome again = run(grid.context, 4, recompute);
      CHECK(again.loss == rounds.loss);
      for (std::size_t b = 0; b < one.gradients.size(); ++b) CHECK(again.gradients[b].equal(rounds.gradients[b]));
    }
  }
}

TEST_CASE("in bf16 recomputation changes no bit of what rounds give") {
  const OnGrid grid(1, comm::make_world(60)->size(), at::kBFloat16);
  const Outcome one = run(grid.context, 0, Recompute::none), rounds = run(grid.context, 3, Recompute::none);
  // A row's products may be added up in another order and round to a neighbour, 2^-8 away.
  CHECK(rounds.loss == Approx(one.loss).epsilon(1e-2));
  for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
    const Outcome again = run(grid.context, 3, recompute);
    CHECK(again.loss == rounds.loss);
    for (std::size_t b = 0; b < rounds.gradients.size(); ++b) CHECK(again.gradients[b].equal(rounds.gradients[b]));
  }
}

TEST_CASE("in rounds the rank that receives all rows needs memory for a round of them") {
  const int world = comm::make_world(60)->size();
  const OnGrid grid(1, world);
  if (world == 1) return;  // nothing travels
  const family::ModelSpec spec = wide_spec();
  const std::int64_t row = row_bytes(spec, grid.context);
  const std::int64_t most_rows = 16, topk = spec.pesc->topk;
  const bool busy = grid.context.grid.ep_rank() == 0;
  const std::int64_t all = busy ? tokens * topk * world : 0;
  // At home: gradients of out, x and y, out itself, two of fp32 copies, and k rows a token on their way back.
  const std::int64_t home = (6 + topk) * tokens;
  const std::int64_t round_of_slots = tokens * topk * std::int64_t{sizeof(std::int64_t) + sizeof(std::int32_t)};
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    const Memory one = memory_of(grid.context, 0, recompute);
    const Memory rounds = memory_of(grid.context, most_rows, recompute);
    CAPTURE(world, recompute, busy, one.kept, one.peak, rounds.kept, rounds.peak);
    // Inputs, gradients of outputs and of inputs, each once more while its order changes.
    CHECK(rounds.peak < (home + 6 * (most_rows + spec.pesc->experts)) * row);
    if (busy) CHECK(one.peak > 3 * all * row);
    // Without recomputation one round keeps the experts' inputs.
    const std::int64_t inputs = recompute == Recompute::none ? all * row : 0;
    CHECK(rounds.kept <= one.kept - inputs + round_of_slots);
  }
}

}  // namespace caravan::tests
