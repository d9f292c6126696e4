// SPDX-License-Identifier: Apache-2.0
// Shared-out AdamW against a plain one in fp64 on whole tensors: any layout, and going on at another.
#include "train/sharded_adamw.hpp"

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"
#include "tests/train/whole_state.hpp"

namespace caravan::tests {
namespace {

using layout::Axis;
using layout::Split;

// fp32 against fp64 over six steps of up to 0.02 on values below one: a few roundings of 6e-8 and 1e-7 of the moves.
constexpr double tolerance = 1e-6;
constexpr double lr = 0.02;

// One tensor has fewer rows than there are ranks.
const std::vector<layout::ParameterSpec> specs{
    {"router", {5, 3}, core::DType::f32, {}, true},
    {"one row", {1, 6}, core::DType::f32, {}, true},
    {"column", {8, 3}, core::DType::f32, Split{0, Axis::tp}, true},
    {"row", {3, 8}, core::DType::f32, Split{1, Axis::tp}, true},
    {"experts", {4, 3, 2}, core::DType::f32, Split{0, Axis::ep}, true},
};

train::Options options() {
  train::Options result;
  result.beta1 = 0.8;
  result.beta2 = 0.95;
  result.eps = 1e-6;
  result.weight_decay = 0.1;
  return result;
}

/// A rank's part of the gradient of a step, as a whole tensor of which the rank uses its slice.
at::Tensor gradient_part(const layout::ParameterSpec& spec, std::int64_t step, int rank) {
  return noise(spec.shape, spec.name + " " + std::to_string(step) + " " + std::to_string(rank));
}

/// The sum over the ranks of the grid: every element gets a term from each replica of the slice that it lies in.
at::Tensor whole_gradient(const layout::ParameterSpec& spec, std::int64_t step, const layout::Grid& grid) {
  at::Tensor sum = at::zeros(spec.shape);
  for (int rank = 0; rank < grid.world(); ++rank) {
    const layout::Rectangle slice = layout::slice_of(spec, grid.at(rank));
    part_of(sum, slice).add_(part_of(gradient_part(spec, step, rank), slice));
  }
  return sum;
}

/// AdamW (Loshchilov and Hutter 2019) with torch's conventions, whole tensors in fp64.
struct NaiveAdamW {
  NaiveAdamW() {
    for (const auto& [name, value] : random_parameters(specs).tensors) {
      weight[name] = value.to(at::kDouble);
      mean[name] = at::zeros_like(weight[name]);
      square[name] = at::zeros_like(weight[name]);
    }
  }
  /// Returns the gradient's norm.
  double step(std::int64_t number, const layout::Grid& grid, double scale) {
    const train::Options o = options();
    double squares = 0;
    for (const layout::ParameterSpec& spec : specs) {
      const at::Tensor g = whole_gradient(spec, number, grid).to(at::kDouble);
      squares += g.pow(2).sum().item<double>();
      at::Tensor &w = weight[spec.name], &m = mean[spec.name], &v = square[spec.name];
      w = w * (1 - lr * o.weight_decay);
      m = o.beta1 * m + (1 - o.beta1) * g * scale;
      v = o.beta2 * v + (1 - o.beta2) * (g * scale).pow(2);
      const at::Tensor m_hat = m / (1 - std::pow(o.beta1, number));
      const at::Tensor v_hat = v / (1 - std::pow(o.beta2, number));
      w = w - lr * m_hat / (v_hat.sqrt() + o.eps);
    }
    return std::sqrt(squares);
  }
  std::map<std::string, at::Tensor> weight, mean, square;
};

/// Parameters with their optimizer on a context.
struct Optimized {
  Optimized(const parallel::Context& where, const layout::TensorSource& source,
            std::int64_t bucket_elements = parallel::default_bucket_elements)
      : context(where),
        parameters(specs, where, bucket_elements),
        optimizer((parameters.load_trainable(source), parameters), where, options()) {
    optimizer.load(source);
  }

  /// One step on this rank's part of the gradients of `grid`; the world of one takes the whole.
  double step(std::int64_t number, const layout::Grid& grid, double scale) {
    for (const layout::ParameterSpec& spec : specs) {
      parallel::Trainable& parameter = parameters.trainable(spec.name);
      const bool alone = context.grid.world() == 1;
      const at::Tensor part = alone ? whole_gradient(spec, number, grid) : gradient_part(spec, number, grid.rank());
      parameter.gradient.copy_(part_of(part, parameter.slice));
    }
    optimizer.reduce_gradients();
    const double gradient_norm = norm();
    optimizer.update(number, lr, scale);
    return gradient_norm;
  }

  double norm() const { return optimizer.gradient_norm(optimizer.squared_gradients().item<double>()); }

  MemorySource whole_state() { return tests::whole_state(optimizer, specs, context); }

  /// The values on this rank, replicas included, and the state of all ranks.
  void compare(const NaiveAdamW& naive) {
    for (const layout::ParameterSpec& spec : specs) {
      const parallel::Trainable& parameter = parameters.trainable(spec.name);
      CAPTURE(spec.name);
      CHECK(max_difference(parameter.value, part_of(naive.weight.at(spec.name), parameter.slice)) < tolerance);
    }
    const MemorySource state = whole_state();
    for (const layout::ParameterSpec& spec : specs) {
      const auto at = [&](const char* moment) { return state.tensors.at(moment + spec.name); };
      CHECK(max_difference(at(""), naive.weight.at(spec.name)) < tolerance);
      CHECK(max_difference(at("optimizer/exp_avg/"), naive.mean.at(spec.name)) < tolerance);
      CHECK(max_difference(at("optimizer/exp_avg_sq/"), naive.square.at(spec.name)) <
            4 * tolerance);  // squares of up to 4
    }
  }

  const parallel::Context& context;
  parallel::Parameters parameters;
  train::ShardedAdamW optimizer;
};

}  // namespace

TEST_CASE("AdamW over shared-out state follows plain AdamW, also loaded at another layout") {
  const MemorySource initial = random_parameters(specs);
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    NaiveAdamW naive;
    Optimized first(grid.context, initial);
    const auto step_both = [&](Optimized& optimized, std::int64_t number) {
      const double scale = number == 2 ? 0.25 : 1.0;
      const double norm = optimized.step(number, grid.context.grid, scale);
      CHECK(norm == Approx(naive.step(number, grid.context.grid, scale)).epsilon(1e-6));
    };
    for (std::int64_t number = 1; number <= 3; ++number) step_both(first, number);
    first.compare(naive);

    // The state goes to a world of one rank, on to another layout of this world, and steps in both.
    const MemorySource three = first.whole_state();
    const Alone one;
    Optimized alone(one.context, three);
    alone.compare(naive);
    step_both(alone, 4);
    alone.compare(naive);

    const int other_tp = grid.context.grid.world() / tp, other_ep = grid.context.grid.world() / ep;
    const OnGrid other(other_tp, other_ep);
    Optimized second(other.context, alone.whole_state());
    second.compare(naive);
    // Gradients are made from the other layout's replicas now, on both sides.
    const double norm = second.step(5, other.context.grid, 1.0);
    CHECK(norm == Approx(naive.step(5, other.context.grid, 1.0)).epsilon(1e-6));
    second.compare(naive);
  }
}

TEST_CASE("Sums that begin while gradients are still added to are the same") {
  const MemorySource initial = random_parameters(specs);
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep), other_grid(tp, ep);
    const layout::Grid& ranks = grid.context.grid;
    Optimized whole(grid.context, initial), overlapped(other_grid.context, initial, /*bucket_elements=*/1);
    REQUIRE(overlapped.parameters.buckets().size() == specs.size());  // one each, from the last to the first
    const auto sums_begun = [&] {
      std::int64_t begun = 0;
      for (const auto* group : {&other_grid.groups.world, &other_grid.groups.dp, &other_grid.groups.edp}) {
        const auto found = (*group)->traffic().find("reduce gradients");
        if (found != (*group)->traffic().end()) begun += found->second.calls;
      }
      return begun;
    };
    std::int64_t to_send = 0;  // buckets that have another replica
    for (const parallel::Bucket& bucket : overlapped.parameters.buckets()) to_send += bucket.replicas->size() > 1;
    for (std::int64_t number = 1; number <= 3; ++number) {
      const double norm = whole.step(number, ranks, 1.0);
      const std::int64_t before = sums_begun();
      overlapped.optimizer.begin_reduction();
      // From the last to the first as in backward; in the second step the other way round, so that all buckets but one
      // are complete before their turn.
      std::vector<std::size_t> order{4, 3, 2, 1, 0};
      if (number == 2) std::reverse(order.begin(), order.end());
      for (const std::size_t i : order) {
        parallel::Trainable& parameter = overlapped.parameters.trainable(specs[i].name);
        const at::Tensor part = ranks.world() == 1 ? whole_gradient(specs[i], number, ranks)
                                                   : gradient_part(specs[i], number, ranks.rank());
        parameter.gradient.copy_(part_of(part, parameter.slice));
        CHECK(sums_begun() - before < std::max<std::int64_t>(to_send, 1));
        parameter.gradient_added();
      }
      CHECK(sums_begun() - before == to_send);  // all under way before anybody waits for them
      overlapped.optimizer.reduce_gradients();
      CHECK(sums_begun() - before == to_send);
      CHECK(overlapped.norm() == Approx(norm).epsilon(1e-12));
      overlapped.optimizer.update(number, lr, 1.0);
      for (const layout::ParameterSpec& spec : specs) {
        CAPTURE(spec.name, number);
        CHECK(overlapped.parameters.trainable(spec.name).value.equal(whole.parameters.trainable(spec.name).value));
      }
    }
  }
}

TEST_CASE("Optimizer state shrinks with the replicas, whatever the tensors are") {
  // One bucket per tensor: a share differs from an equal one by less than a row. At 4 ranks and EP 2 two replicas hold
  // one expert, and share its rows.
  const std::vector<layout::ParameterSpec> matrices{
      {"router", {8, 16}, core::DType::f32, {}, true},
      {"a", {16, 40}, core::DType::f32, {}, true},
      {"experts", {2, 48, 16}, core::DType::f32, Split{0, Axis::ep}, true}};
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 2)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    parallel::Parameters parameters(matrices, grid.context, /*bucket_elements=*/1);
    const train::ShardedAdamW optimizer(parameters, grid.context, options());
    for (const parallel::Bucket& bucket : parameters.buckets()) {
      const layout::ParameterSpec& spec = bucket.members[0]->spec;
      CAPTURE(spec.name);
      const double equal = static_cast<double>(bucket.values.numel()) / bucket.replicas->size();
      CHECK(std::abs(static_cast<double>(bucket.owned_count) - equal) < static_cast<double>(spec.shape.back()));
    }
  }
}

TEST_CASE("masters stay fp32 under bf16 values, also through a save") {
  const MemorySource initial = random_parameters(specs);
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep), rounded_grid(tp, ep, at::kBFloat16);
    Optimized exact(grid.context, initial), rounded(rounded_grid.context, initial);
    const auto compare = [&] {
      const MemorySource masters = rounded.whole_state(), wanted = exact.whole_state();
      for (const auto& [name, tensor] : masters.tensors) {
        CAPTURE(name);
        CHECK(tensor.equal(wanted.tensors.at(name)));
      }
      for (const layout::ParameterSpec& spec : specs) {
        CAPTURE(spec.name);
        const parallel::Trainable& parameter = rounded.parameters.trainable(spec.name);
        CHECK(parameter.gradient.scalar_type() == at::kFloat);
        CHECK(parameter.value.equal(part_of(masters.tensors.at(spec.name), parameter.slice).to(at::kBFloat16)));
      }
    };
    compare();
    // The gradients do not come from the values here, so that the masters must be those of fp32, bit for bit.
    for (std::int64_t number = 1; number <= 3; ++number) {
      exact.step(number, grid.context.grid, 1.0);
      rounded.step(number, rounded_grid.context.grid, 1.0);
      compare();
    }
    Optimized resumed(rounded_grid.context, rounded.whole_state());
    for (const layout::ParameterSpec& spec : specs) {
      CHECK(resumed.parameters.trainable(spec.name).value.equal(rounded.parameters.trainable(spec.name).value));
    }
    resumed.step(4, rounded_grid.context.grid, 1.0);
    rounded.step(4, rounded_grid.context.grid, 1.0);
    const MemorySource there = rounded.whole_state();
    for (const auto& [name, tensor] : resumed.whole_state().tensors) {
      CAPTURE(name);
      CHECK(tensor.equal(there.tensors.at(name)));
    }
  }
}

TEST_CASE("loading a source without moments sets them to zero, whatever they were") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    const MemorySource initial = random_parameters(specs);
    Optimized optimized(grid.context, initial);
    optimized.step(1, grid.context.grid, 1.0);
    optimized.optimizer.load(initial);
    const MemorySource state = optimized.whole_state();
    for (const auto& [name, tensor] : state.tensors) {
      CAPTURE(name);
      const bool moment = name.find("optimizer/") == 0;
      CHECK(tensor.equal(moment ? at::zeros_like(tensor) : initial.tensors.at(name)));
    }
  }
}

}  // namespace caravan::tests
