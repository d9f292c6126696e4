// SPDX-License-Identifier: Apache-2.0
// One training step at any layout and accumulation against the same step in a world of one.
#include "train/trainer.hpp"

#include "tests/layouts/step_cost.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"
#include "tests/train/whole_state.hpp"
#include "train/context.hpp"

namespace caravan::tests {
namespace {

// Gradients of up to about 0.1, made in fp32 in another order: 2.4e-7 was seen. The golden trajectories allow as much.
constexpr double gradient_tolerance = 2e-6;
constexpr double relative_tolerance = 1e-5;
constexpr std::int64_t rows = 4;  // of a global batch, one for each data-parallel rank at most

using model::BalanceScope;

train::Options options(BalanceScope scope, double balance) {
  train::Options result;
  result.lr = 1e-3;
  result.balance_loss = balance;
  result.balance_scope = scope;
  result.expert_dropout = 0.2;
  return result;
}

data::TokenBatch row(std::int64_t number) {
  return random_batch({7 + 3 * number}, 100 + static_cast<std::uint64_t>(number), small_spec().vocabulary);
}

/// Rows [first, last) in one micro-batch.
data::TokenBatch rows_between(std::int64_t first, std::int64_t last) {
  std::vector<data::TokenBatch> batches;
  for (std::int64_t r = first; r < last; ++r) batches.push_back(row(r));
  return joined(batches);
}

train::BatchTotals totals() {
  const data::TokenBatch all = rows_between(0, rows);
  return {static_cast<std::int64_t>(all.tokens.size()),
          std::count_if(all.targets.begin(), all.targets.end(), [](std::int32_t t) { return t >= 0; })};
}

struct Outcome {
  train::StepReport report;
  std::map<std::string, at::Tensor> gradients;  // this rank's slices
  std::map<std::string, at::Tensor> values;     // after the step
};

Outcome step(const parallel::Context& context, const std::vector<data::TokenBatch>& micro_batches,
             const train::Options& how) {
  start_kernels();
  RandomModel model(context, small_spec());
  train::Trainer trainer(context, *model.decoder, model.parameters, how, 0.1, {how.lr, 0, 10});
  Outcome outcome;
  outcome.report = trainer.step(1, micro_batches, totals());
  outcome.gradients = reduced_gradients(model.parameters);
  for (const layout::ParameterSpec& spec : model.parameters.specs()) {
    if (spec.trainable) outcome.values[spec.name] = model.parameters.trainable(spec.name).value.clone();
  }
  return outcome;
}

/// `whole`: of a world of one.
void compare(const Outcome& got, const Outcome& whole, const layout::Grid& grid) {
  CHECK(got.report.ce_loss == Approx(whole.report.ce_loss).epsilon(relative_tolerance));
  CHECK(got.report.balance_loss == Approx(whole.report.balance_loss).epsilon(relative_tolerance));
  CHECK(got.report.loss == Approx(whole.report.loss).epsilon(relative_tolerance));
  CHECK(got.report.grad_norm == Approx(whole.report.grad_norm).epsilon(relative_tolerance));
  CHECK(got.report.busiest_expert == Approx(whole.report.busiest_expert).epsilon(1e-12));
  CHECK(got.report.idlest_expert == Approx(whole.report.idlest_expert).epsilon(1e-12));
  CHECK(got.report.tokens == whole.report.tokens);
  CHECK(got.report.targets == whole.report.targets);
  CHECK(got.report.assignments == whole.report.assignments);
  CHECK(got.report.dropped == whole.report.dropped);
  for (const layout::ParameterSpec& spec : family::parameter_specs(small_spec())) {
    if (!spec.trainable) continue;
    CAPTURE(spec.name);
    const at::Tensor wanted = part_of(whole.gradients.at(spec.name), layout::slice_of(spec, grid));
    CHECK(max_difference(got.gradients.at(spec.name), wanted) < gradient_tolerance);
  }
}

template <typename Work>
void at_few_layouts(const Work& work) {
  for (const auto& [tp, ep] : few_layouts(comm::make_world(60)->size())) {
    CAPTURE(tp, ep);
    work(OnGrid(tp, ep));
  }
}

template <typename Work>
void at_every_layout(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    work(OnGrid(tp, ep));
  }
}

/// This rank's rows of the global batch in one micro-batch, or one micro-batch for each.
std::vector<data::TokenBatch> micro_batches(const layout::Grid& grid, bool accumulate) {
  const std::int64_t mine = rows / grid.dp(), first = mine * grid.dp_rank();
  if (!accumulate) return {rows_between(first, first + mine)};
  std::vector<data::TokenBatch> batches;
  for (std::int64_t r = first; r < first + mine; ++r) batches.push_back(row(r));
  return batches;
}

}  // namespace

TEST_CASE("a step is the same at every layout and accumulation") {
  const Alone one;
  // Batch scope measures the balance over a micro-step, so it is the same without accumulation only.
  struct Case {
    BalanceScope scope;
    double balance;
    bool accumulate;
  };
  for (const Case& which : {Case{BalanceScope::sequence, 0.05, false}, Case{BalanceScope::sequence, 0.05, true},
                            Case{BalanceScope::batch, 0, true}, Case{BalanceScope::batch, 0.05, false}}) {
    const train::Options how = options(which.scope, which.balance);
    const Outcome whole = step(one.context, {rows_between(0, rows)}, how);
    REQUIRE(whole.report.grad_norm > 0.1);  // the comparison below is absolute
    at_every_layout([&](const OnGrid& grid) {
      CAPTURE(which.scope, which.balance, which.accumulate);
      compare(step(grid.context, micro_batches(grid.context.grid, which.accumulate), how), whole, grid.context.grid);
    });
  }
}

TEST_CASE("a micro-batch without tokens changes nothing") {
  at_few_layouts([](const OnGrid& grid) {
    for (const BalanceScope scope : {BalanceScope::batch, BalanceScope::sequence}) {
      const train::Options how = options(scope, 0.05);
      auto batches = micro_batches(grid.context.grid, false);
      const Outcome without = step(grid.context, batches, how);
      batches.emplace_back();
      const Outcome with = step(grid.context, batches, how);
      CAPTURE(scope);
      // Zeros are added: exact.
      CHECK(with.report.loss == without.report.loss);
      CHECK(with.report.grad_norm == without.report.grad_norm);
      for (const auto& [name, gradient] : without.gradients) {
        CAPTURE(name);
        CHECK(with.gradients.at(name).equal(gradient));
        CHECK(with.values.at(name).equal(without.values.at(name)));
      }
    }
  });
}

TEST_CASE("some data-parallel ranks may have no tokens at all") {
  const Alone one;
  for (const BalanceScope scope : {BalanceScope::batch, BalanceScope::sequence}) {
    const train::Options how = options(scope, 0.05);
    const Outcome whole = step(one.context, {rows_between(0, rows)}, how);
    at_few_layouts([&](const OnGrid& grid) {
      // All rows on the last one.
      const bool mine = grid.context.grid.dp_rank() == grid.context.grid.dp() - 1;
      CAPTURE(scope);
      compare(step(grid.context, {mine ? rows_between(0, rows) : data::TokenBatch{}}, how), whole, grid.context.grid);
    });
  }
}

TEST_CASE("what experts drop is the same at every layout and accumulation, over all ranks") {
  const Alone one;
  for (const BalanceScope scope : {BalanceScope::batch, BalanceScope::sequence}) {
    train::Options how = options(scope, scope == BalanceScope::batch ? 0 : 0.05);
    CHECK_FALSE(step(one.context, {rows_between(0, rows)}, how).report.dropped.has_value());
    how.capacity = 0.75;
    const Outcome whole = step(one.context, {rows_between(0, rows)}, how);
    const family::ModelSpec spec = small_spec();
    CHECK(whole.report.assignments == totals().tokens * spec.pesc->topk * spec.layers);
    REQUIRE(whole.report.dropped.value_or(0) > 0);
    // Experts take three quarters of an even share at most, rounded up for each sequence.
    CHECK(4 * (whole.report.assignments - *whole.report.dropped) <=
          3 * whole.report.assignments + 4 * rows * spec.pesc->experts * spec.layers);
    for (const bool accumulate : {false, true}) {
      CAPTURE(scope, accumulate);
      at_every_layout([&](const OnGrid& grid) {
        compare(step(grid.context, micro_batches(grid.context.grid, accumulate), how), whole, grid.context.grid);
      });
    }
  }
}

TEST_CASE("train.exchange_mib bounds the rows that a rank's experts receive at a time") {
  // Rows of 1 KiB; experts 0 and 1 get all of them, 4.7 MiB.
  family::ModelSpec spec = small_spec();
  spec.hidden = 256;
  const int world = comm::make_world(60)->size();
  if (world == 1) return;  // nothing travels
  OnGrid grid(1, world);
  const auto ordinal = static_cast<std::uint64_t>(grid.context.grid.dp_rank());
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(100 / world), 24);
  const std::int64_t wanted = 2400 * spec.pesc->topk;
  const auto run = [&](std::int64_t exchange_mib) {
    train::Options how = options(BalanceScope::batch, 0.05);
    how.precision = train::Precision::fp32;
    how.exchange_mib = {exchange_mib};
    const parallel::Context context = train::make_context(grid.context.grid, grid.groups, how);
    RandomModel model(context, spec);
    // Equal logits: ties go to the lower expert.
    for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
      model.parameters.trainable(family::layer_prefix(layer) + "mlp.moe_adapter.router.weight").value.zero_();
    }
    train::Trainer trainer(context, *model.decoder, model.parameters, how, 0.1, {how.lr, 0, 10});
    TensorMemory& memory = TensorMemory::counting();
    const std::int64_t before = memory.live();
    memory.forget_peak();
    Outcome outcome;
    outcome.report = trainer.step(
        1, std::vector<data::TokenBatch>{random_batch(lengths, 100 * ordinal, spec.vocabulary)}, {2400, 1600});
    outcome.gradients = reduced_gradients(model.parameters);
    return std::pair{outcome, memory.peak() - before};
  };
  const auto [one, one_peak] = run(1024);
  const auto [rounds, rounds_peak] = run(1);
  CHECK(rounds.report.loss == Approx(one.report.loss).epsilon(relative_tolerance));
  CHECK(rounds.report.grad_norm == Approx(one.report.grad_norm).epsilon(relative_tolerance));
  for (const auto& [name, gradient] : one.gradients) {
    CAPTURE(name);
    CHECK(max_difference(rounds.gradients.at(name), gradient) < gradient_tolerance);
  }
  // Both layers' inputs are not kept, and the last one's gradients come in rounds as well.
  CAPTURE(one_peak, rounds_peak);
  if (grid.context.grid.ep_rank() == 0) CHECK(one_peak - rounds_peak > 2 * wanted * 1024);
}

TEST_CASE("the same step gives the same bits when it runs again") {
  at_few_layouts([](const OnGrid& grid) {
    const train::Options how = options(BalanceScope::batch, 0.05);
    const auto batches = micro_batches(grid.context.grid, true);
    const Outcome first = step(grid.context, batches, how), second = step(grid.context, batches, how);
    CHECK(first.report.loss == second.report.loss);
    for (const auto& [name, value] : first.values) CHECK(second.values.at(name).equal(value));
  });
}

TEST_CASE("a step begins without the gradients of the step before") {
  at_few_layouts([](const OnGrid& grid) {
    RandomModel model(grid.context, small_spec());
    const train::Options how = options(BalanceScope::batch, 0.05);
    // Step 1 of a warm-up has rate 0: the parameters stay, so a second one computes the same.
    train::Trainer trainer(grid.context, *model.decoder, model.parameters, how, 0.1, {how.lr, 5, 10});
    const auto batches = micro_batches(grid.context.grid, false);
    const train::StepReport first = trainer.step(1, batches, totals());
    const auto gradients = reduced_gradients(model.parameters);
    const train::StepReport second = trainer.step(1, batches, totals());
    CHECK(first.lr == 0);
    CHECK(first.loss == second.loss);
    CHECK(first.grad_norm == second.grad_norm);
    for (const auto& [name, gradient] : reduced_gradients(model.parameters)) {
      CAPTURE(name);
      CHECK(gradient.equal(gradients.at(name)));
    }
  });
}

TEST_CASE("clipping scales the gradient to the norm allowed, and reports the norm before") {
  const Alone one;
  start_kernels();
  RandomModel model(one.context, small_spec());
  train::Options how = options(BalanceScope::batch, 0.05);
  how.clip = 1e-3;
  how.beta1 = how.beta2 = 0;  // the moments are then the clipped gradient and its square
  train::Trainer trainer(one.context, *model.decoder, model.parameters, how, 0.1, {how.lr, 0, 10});
  const train::StepReport report = trainer.step(1, std::vector<data::TokenBatch>{rows_between(0, rows)}, totals());
  REQUIRE(report.grad_norm > 1);
  double squares = 0;
  for (const auto& piece : trainer.optimizer().owned_pieces()) {
    if (piece.name.find("optimizer/exp_avg/") != 0) continue;
    for (std::int64_t i = 0; i < piece.part.count(); ++i) squares += std::pow(piece.data[i], 2.0);
  }
  // torch divides by norm + 1e-6.
  CHECK(std::sqrt(squares) == Approx(how.clip * report.grad_norm / (report.grad_norm + 1e-6)).epsilon(1e-5));
}

TEST_CASE("a step whose loss is not finite changes nothing, also not what comes after it") {
  at_few_layouts([](const OnGrid& grid) {
    const train::Options how = options(BalanceScope::batch, 0.01);
    const std::vector<data::TokenBatch> micro = micro_batches(grid.context.grid, false);
    // One trainer meets a bad step between two good ones, the other does not. The rate is constant, and masks depend on
    // tokens alone.
    RandomModel model(grid.context, small_spec()), undisturbed(grid.context, small_spec());
    train::Trainer trainer(grid.context, *model.decoder, model.parameters, how, 0.1, {how.lr, 0, 10});
    train::Trainer other(grid.context, *undisturbed.decoder, undisturbed.parameters, how, 0.1, {how.lr, 0, 10});
    CHECK_FALSE(trainer.step(1, micro, totals()).skipped);
    other.step(1, micro, totals());

    at::Tensor poisoned = model.parameters.trainable("model.layers.0.mlp.down_proj.lora_B.weight").value;
    const at::Tensor healthy = poisoned.clone();
    poisoned.fill_(std::numeric_limits<float>::infinity());
    const MemorySource before = whole_state(trainer.optimizer(), model.parameters.specs(), grid.context);
    const train::StepReport report = trainer.step(2, micro, totals());
    CHECK(report.skipped);
    const MemorySource after = whole_state(trainer.optimizer(), model.parameters.specs(), grid.context);
    for (const auto& [name, tensor] : before.tensors) {
      CAPTURE(name);
      CHECK(tensor.equal(after.tensors.at(name)));
    }

    poisoned.copy_(healthy);
    CHECK_FALSE(trainer.step(3, micro, totals(), /*skipped=*/1).skipped);
    other.step(2, micro, totals());
    for (const layout::ParameterSpec& spec : model.parameters.specs()) {
      if (!spec.trainable) continue;
      CAPTURE(spec.name);
      CHECK(model.parameters.trainable(spec.name).value.equal(undisturbed.parameters.trainable(spec.name).value));
    }
  });
}

}  // namespace caravan::tests
