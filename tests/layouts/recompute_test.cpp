// SPDX-License-Identifier: Apache-2.0
// Recomputation changes what a step keeps and repeats, never a bit of its result.
#include "tests/layouts/random_model.hpp"
#include "tests/layouts/step_cost.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/trainer.hpp"

namespace caravan::tests {
namespace {

constexpr std::int64_t steps = 3;

struct Model {
  Model(const parallel::Context& context, const family::ModelSpec& spec)
      : parameters(family::parameter_specs(spec), context) {
    const RandomTensors tensors(spec);
    parameters.load_frozen(tensors);
    parameters.load_trainable(tensors);
    decoder = std::make_unique<model::Decoder>(context, spec, parameters);
  }
  parallel::Parameters parameters;
  std::unique_ptr<model::Decoder> decoder;
};

/// Micro-step m of a step on a data-parallel rank; in the second one the last of several ranks has no token.
data::TokenBatch micro_batch(std::int64_t step, std::int64_t m, int dp_rank, int dp) {
  if (m == 1 && dp > 1 && dp_rank == dp - 1) return {};
  return random_batch({9, 17, 4}, static_cast<std::uint64_t>(std::int64_t{1000} * dp_rank + 100 * step + 10 * m), 96);
}

struct Run {
  std::vector<train::StepReport> reports;
  std::vector<at::Tensor> bits;  // this rank's gradients and values after every step
};

Run train(const parallel::Context& context, const family::ModelSpec& spec, model::Recompute recompute,
          model::BalanceScope balance_scope) {
  Model model(context, spec);
  train::Options options;
  options.precision = train::Precision::fp32;
  options.lr = 2e-3;
  options.steps = steps;
  options.balance_scope = balance_scope;
  options.recompute = recompute;
  train::Trainer trainer(context, *model.decoder, model.parameters, options, /*lora_dropout=*/0.1,
                         train::make_schedule(options, 0));
  Run run;
  for (std::int64_t step = 1; step <= steps; ++step) {
    std::vector<data::TokenBatch> micro;
    for (std::int64_t m = 0; m < 2; ++m) {
      micro.push_back(micro_batch(step, m, context.grid.dp_rank(), context.grid.dp()));
    }
    run.reports.push_back(
        trainer.step(step, micro, {std::int64_t{60} * context.grid.dp(), std::int64_t{40} * context.grid.dp()}));
    for (const parallel::Bucket& bucket : model.parameters.buckets()) {
      run.bits.push_back(bucket.gradients.clone());
      run.bits.push_back(bucket.values.clone());
    }
  }
  return run;
}

void compare(const Run& run, const Run& none) {
  for (std::size_t s = 0; s < none.reports.size(); ++s) {
    CAPTURE(s);
    CHECK(run.reports[s].ce_loss == none.reports[s].ce_loss);
    CHECK(run.reports[s].balance_loss == none.reports[s].balance_loss);
    CHECK(run.reports[s].grad_norm == none.reports[s].grad_norm);
    CHECK(run.reports[s].busiest_expert == none.reports[s].busiest_expert);
    CHECK(run.reports[s].grad_norm > 0);
  }
  REQUIRE(run.bits.size() == none.bits.size());
  for (std::size_t b = 0; b < none.bits.size(); ++b) CHECK(run.bits[b].equal(none.bits[b]));
}

void compare_modes(const std::vector<std::pair<int, int>>& grids, const family::ModelSpec& spec) {
  for (const auto& [tp, ep] : grids) {
    const OnGrid on(tp, ep);
    for (const auto scope : {model::BalanceScope::batch, model::BalanceScope::sequence}) {
      const Run none = train(on.context, spec, model::Recompute::none, scope);
      for (const auto recompute : {model::Recompute::selective, model::Recompute::full}) {
        CAPTURE(tp, ep, scope, recompute);
        compare(train(on.context, spec, recompute, scope), none);
      }
    }
  }
}

struct Cost {
  double kept = 0;  // bytes between forward and backward
  std::map<std::string, int> calls;
};

Cost cost_of(const family::ModelSpec& spec, const std::vector<std::int64_t>& lengths, model::Recompute recompute) {
  const Alone alone;
  const Model model(alone.context, spec);
  const data::TokenBatch batch = random_batch(lengths, 5, spec.vocabulary);
  const parallel::TokenAxis axis(parallel::token_rows(batch), alone.context);
  const model::Pass pass{axis, {7, 0.1, 0.1}, nullptr, recompute};
  TensorMemory& memory = TensorMemory::counting();
  Cost cost;
  const std::int64_t before = memory.live();
  const CallCount count;
  const parallel::TokenLoss loss = model.decoder->loss(model.decoder->forward(pass), axis.targets_of(batch.targets), 1);
  cost.kept = static_cast<double>(memory.live() - before);
  loss.loss.backward();
  cost.calls = count.calls();
  return cost;
}

}  // namespace

TEST_CASE("Recomputing changes no bit of gradients, curve and parameters", "[layouts]") {
  start_kernels();
  const int world = comm::make_world(60)->size();
  family::ModelSpec spec = random_model_spec();
  spec.kv_heads = spec.heads / 4;  // then q, k and v are made again, below they are kept
  compare_modes(layouts(world, 4), spec);
}

TEST_CASE("Recomputing changes no bit with LoRA on few or no linears, nor in dense models", "[layouts]") {
  start_kernels();
  const int world = comm::make_world(60)->size();
  const std::vector<std::pair<int, int>> grids{{1, world}, {world, 1}};
  family::ModelSpec spec = random_model_spec();
  spec.lora->targets = {"k_proj", "o_proj", "up_proj"};
  compare_modes(grids, spec);
  spec.lora->targets = {"v_proj", "down_proj"};
  compare_modes(grids, spec);
  spec.lora.reset();
  compare_modes(grids, spec);
  family::ModelSpec dense = random_model_spec();
  dense.pesc.reset();
  compare_modes({{world, 1}}, dense);
}

TEST_CASE("Selective recomputation halves what grouped heads keep, full keeps layer inputs", "[layouts]") {
  start_kernels();
  const family::ModelSpec spec = grouped_spec();
  const std::vector<std::int64_t> lengths{70, 58};
  const Cost none = cost_of(spec, lengths, model::Recompute::none);
  const Cost selective = cost_of(spec, lengths, model::Recompute::selective);
  const Cost full = cost_of(spec, lengths, model::Recompute::full);
  INFO("kept bytes " << none.kept << ", " << selective.kept << ", " << full.kept);
  CHECK(selective.kept <= 0.5 * none.kept);
  CHECK(full.kept < 0.5 * selective.kept);

  const auto layers = static_cast<int>(spec.layers), documents = static_cast<int>(lengths.size());
  const auto experts = static_cast<int>(spec.pesc->experts);
  const auto repeated = [&none](const Cost& cost, const char* call) {
    return cost.calls.at(call) - none.calls.at(call);
  };
  // q, k and v and their LoRA's B, attention's two products, the Up of the experts that have tokens.
  CHECK(repeated(selective, "aten::mm") == 3 * layers);
  CHECK(repeated(selective, "aten::addmm_") == 3 * layers);
  CHECK(repeated(selective, "aten::bmm") == 2 * documents * layers);
  CHECK(repeated(selective, "aten::mm.out") > 0);
  CHECK(repeated(selective, "aten::mm.out") <= experts * layers);
  // All seven linears; the experts' Down instead of Up.
  CHECK(repeated(full, "aten::mm") == 7 * layers);
  CHECK(repeated(full, "aten::mm.out") == repeated(selective, "aten::mm.out"));
}

TEST_CASE("What backward does not read is not kept", "[layouts]") {
  start_kernels();
  family::ModelSpec spec = grouped_spec();
  const Cost with_lora = cost_of(spec, {70, 58}, model::Recompute::none);
  spec.lora.reset();
  const Cost without = cost_of(spec, {70, 58}, model::Recompute::none);
  // The attention's norm and output and the SwiGLU's; LoRA's inner activations too, which the bound leaves out.
  const double numbers = static_cast<double>(128 * spec.layers * (2 * spec.hidden + spec.ffn));
  CHECK(with_lora.kept - without.kept >= numbers * sizeof(float));
}

}  // namespace caravan::tests
