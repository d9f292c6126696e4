// SPDX-License-Identifier: Apache-2.0
// The mixture of adapters against its formula on whole tensors with torch's own autograd, at every layout. Each
// data-parallel rank has tokens of its own; the naive side sees all of them at once.
#include "model/expert_mixture.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

// Sums of up to 16 (forward) and 120 (gradients) products of numbers of order one in fp32, in another order.
constexpr double output_tolerance = 1e-5;
constexpr double gradient_tolerance = 3e-5;
constexpr std::int64_t layer = 1;
const std::string prefix = "model.layers.1.mlp.moe_adapter.";

struct Case {
  const char* name;
  double dropout = 0;
  bool one_rank = false;  // all tokens choose experts 0 and 1
  double balance = 0;     // of the balance gradient's factor; 0: off
  model::BalanceScope scope = model::BalanceScope::batch;
  bool up_is_zero = false;
  bool idle = false;           // the last data-parallel rank has no tokens
  std::int64_t most_rows = 0;  // that a rank receives at a time; 0: all
  model::Recompute recompute = model::Recompute::none;
  double capacity = 0;
};

/// The tokens of all data-parallel ranks; two sequences each.
std::vector<data::TokenBatch> batches_of(const layout::Grid& grid, const Case& which) {
  std::vector<data::TokenBatch> batches;
  for (int d = 0; d < grid.dp(); ++d) {
    const bool idle = which.idle && d == grid.dp() - 1;
    batches.push_back(idle ? data::TokenBatch{} : random_batch({9, 4 + d}, 10 * static_cast<std::uint64_t>(d), 40));
  }
  return batches;
}

MemorySource weights_of(const family::ModelSpec& spec, const Case& which) {
  MemorySource source = random_parameters(family::parameter_specs(spec));
  if (which.one_rank) source.tensors[prefix + "router.weight"].narrow(0, 0, 2).select(1, 0).fill_(4);
  if (which.up_is_zero) source.tensors[prefix + "experts.adapter_up.weight"].zero_();
  return source;
}

struct Naive {
  at::Tensor x, y, router, down, up;  // leaves
  at::Tensor out;
  double balance = 0;  // Σ f · Σ p over rows and experts
  std::int64_t dropped = 0;
};

/// 1 where a token's expert takes it, else 0, [T, E]: each sequence's tokens one after the other. indices: [T, k].
at::Tensor taken_of(const at::Tensor& indices, const std::vector<std::int32_t>& sequence, std::int64_t experts,
                    double capacity) {
  at::Tensor taken = at::zeros({indices.size(0), experts});
  std::map<std::pair<std::int32_t, std::int64_t>, double> counts;
  for (std::int64_t t = 0; t < indices.size(0); ++t) {
    const std::int32_t own = sequence[static_cast<std::size_t>(t)];
    const double length = static_cast<double>(std::count(sequence.begin(), sequence.end(), own));
    for (std::int64_t j = 0; j < indices.size(1); ++j) {
      const auto e = indices[t][j].item<std::int64_t>();
      const double limit =
          std::ceil(capacity * static_cast<double>(indices.size(1)) * length / static_cast<double>(experts));
      if (capacity == 0 || counts[{own, e}]++ < limit) taken[t][e] = 1;
    }
  }
  return taken;
}

/// out = y + s Σ w_e Up_e(gelu(Down_e(dropout(y)))) and a loss: out · cotangent + factor · Σ_rows Σ_e f_e Σ_tokens p_e.
Naive run_naive(const family::ModelSpec& spec, const MemorySource& weights, const data::TokenBatch& tokens,
                const at::Tensor& x, const at::Tensor& y, const at::Tensor& cotangent, const Case& which,
                std::uint64_t seed) {
  const family::Pesc& pesc = spec.pesc.value();
  Naive naive{leaf(x),
              leaf(y),
              leaf(weights.tensors.at(prefix + "router.weight")),
              leaf(weights.tensors.at(prefix + "experts.adapter_down.weight")),
              leaf(weights.tensors.at(prefix + "experts.adapter_up.weight")),
              {},
              0,
              0};
  const at::Tensor logits = at::mm(naive.x, naive.router.t());
  const auto [chosen, indices] = logits.topk(pesc.topk, 1);
  const at::Tensor taken = taken_of(indices, tokens.sequence, pesc.experts, which.capacity);
  const at::Tensor w = at::zeros_like(logits).scatter(1, indices, chosen.softmax(1)) * taken;  // [T, E]
  naive.dropped = indices.numel() - taken.sum().item<std::int64_t>();
  at::Tensor sum = at::zeros_like(y);
  for (std::int64_t e = 0; e < pesc.experts; ++e) {
    const std::uint64_t key =
        core::random_key(seed, core::RandomUse::expert_dropout, layer, static_cast<std::uint64_t>(e));
    const at::Tensor input = naive.y * dropout_factors(key, tokens.identity, spec.hidden, which.dropout);
    sum = sum + w.narrow(1, e, 1) * at::mm(at::gelu(at::mm(input, naive.down[e].t())), naive.up[e].t());
  }
  naive.out = naive.y + pesc.scaling * sum;

  // Rows of the balance loss: all tokens, or each sequence.
  at::Tensor row =
      at::tensor(at::IntArrayRef(std::vector<std::int64_t>(tokens.sequence.begin(), tokens.sequence.end())), at::kLong);
  if (which.scope == model::BalanceScope::batch) row = at::zeros_like(row);
  at::Tensor balance = at::zeros({}, logits.options());
  const std::int64_t rows = row.numel() == 0 ? 0 : row.max().item<std::int64_t>() + 1;
  for (std::int64_t r = 0; r < rows; ++r) {
    const at::Tensor members = row.eq(r).nonzero().squeeze(1);
    const at::Tensor counts = at::zeros_like(logits).scatter(1, indices, 1.0).index_select(0, members).sum(0).detach();
    const at::Tensor p = logits.index_select(0, members).softmax(1).sum(0);
    balance = balance + (counts / counts.sum() * p).sum();
  }
  naive.balance = balance.item<double>();
  ((naive.out * cotangent).sum() + which.balance * balance).backward();
  return naive;
}

void compare(OnGrid& grid, const Case& which) {
  const family::ModelSpec spec = small_spec();
  if (which.most_rows > 0) {
    grid.context.exchange_bytes = which.most_rows * spec.hidden * std::int64_t{sizeof(float)};
  }
  const std::vector<data::TokenBatch> batches = batches_of(grid.context.grid, which);
  const auto dp_rank = static_cast<std::size_t>(grid.context.grid.dp_rank());
  const data::TokenBatch all = joined(batches);
  std::int64_t begin = 0;
  for (std::size_t d = 0; d < dp_rank; ++d) begin += static_cast<std::int64_t>(batches[d].tokens.size());
  const auto total = static_cast<std::int64_t>(all.tokens.size());
  at::Tensor x = noise({total, spec.hidden}, "x", 2);
  if (which.one_rank) x.select(1, 0).fill_(4);
  const at::Tensor y = noise({total, spec.hidden}, "y", 2), cotangent = noise({total, spec.hidden}, "c");
  const MemorySource weights = weights_of(spec, which);
  const model::DropoutRates dropout{77, 0, which.dropout};
  const Naive naive = run_naive(spec, weights, all, x, y, cotangent, which, dropout.seed);

  parallel::Parameters parameters(family::parameter_specs(spec), grid.context);
  parameters.load_trainable(weights);
  const model::ExpertMixture mixture(grid.context, spec, layer, parameters);
  const parallel::TokenAxis axis(parallel::token_rows(batches[dp_rank]), grid.context);
  const auto here = [&](const at::Tensor& whole) {
    return axis.shard_of(padded(whole.narrow(0, begin, axis.real), axis.tokens));
  };
  model::Pass pass{axis, dropout, nullptr, which.recompute};
  pass.capacity = which.capacity;
  pass.routing =
      std::make_shared<model::RoutingRecord>(grid.context, axis, spec.layers, spec.pesc->experts, which.scope);
  pass.routing->gradient_scale = which.balance;
  const at::Tensor shard_x = leaf(here(x)), shard_y = leaf(here(y));
  const parallel::Activation activation = mixture.forward(shard_x, shard_y, pass);
  const at::Tensor& out = activation.value;
  CHECK(activation.recalled.get().equal(out.detach()));
  pass.routing->reduce();
  (out * here(cotangent)).sum().backward();

  CHECK(max_difference(out, here(naive.out.detach())) < output_tolerance);
  CHECK(max_difference(gradient_of(shard_x), here(gradient_of(naive.x))) < gradient_tolerance);
  CHECK(max_difference(gradient_of(shard_y), here(gradient_of(naive.y))) < gradient_tolerance);
  const auto gradients = reduced_gradients(parameters);
  const auto check = [&](const char* name, const at::Tensor& wanted) {
    CAPTURE(name);
    const at::Tensor part = part_of(gradient_of(wanted), parameters.trainable(prefix + name).slice);
    CHECK(max_difference(gradients.at(prefix + name), part) < gradient_tolerance);
  };
  check("router.weight", naive.router);
  check("experts.adapter_down.weight", naive.down);
  check("experts.adapter_up.weight", naive.up);
  if (which.up_is_zero) {
    // Exactly, on every rank: AdamW would make a step of any rest.
    CHECK(out.detach().equal(here(y)));
    const at::Tensor& router = gradients.at(prefix + "router.weight");
    CHECK(router.equal(at::zeros_like(router)));
    CHECK(gradient_of(shard_x).eq(0).all().item<bool>());
  }

  // Sums over the ranks that share rows; the naive side has all rows.
  double balance = pass.routing->share_times_probability().item<double>();
  at::Tensor assignments = pass.routing->assignments();
  auto dropped = static_cast<std::int64_t>(pass.routing->dropped().item<double>());
  if (which.scope == model::BalanceScope::sequence) {
    balance = grid.groups.dp->all_reduce("sum balance", balance, comm::Reduce::sum);
    parallel::all_reduce(*grid.groups.dp, "sum assignments", assignments, comm::Reduce::sum);
    dropped = grid.groups.dp->all_reduce("sum dropped", dropped, comm::Reduce::sum);
  }
  CHECK(balance == Approx(naive.balance).epsilon(1e-5));
  CHECK(dropped == naive.dropped);
  if (which.capacity > 0 && total > 0) CHECK(dropped > 0);
  CHECK(assignments.select(0, layer).sum().item<double>() == static_cast<double>(total * spec.pesc->topk));
  if (which.one_rank) {
    CHECK(assignments.select(0, layer).narrow(0, 2, spec.pesc->experts - 2).eq(0).all().item<bool>());
  }
}

void compare_at(const std::vector<std::pair<int, int>>& grids, const Case& which) {
  for (const auto& [tp, ep] : grids) {
    CAPTURE(which.name, tp, ep);
    OnGrid grid(tp, ep);
    compare(grid, which);
  }
}

std::vector<std::pair<int, int>> all() { return layouts(comm::make_world(60)->size(), 4); }
std::vector<std::pair<int, int>> few() { return few_layouts(comm::make_world(60)->size()); }

}  // namespace

TEST_CASE("the mixture's output and gradients follow its formula") {
  compare_at(all(), {.name = "plain"});
  compare_at(all(), {.name = "dropout", .dropout = 0.25});
  compare_at(all(), {.name = "an idle rank", .dropout = 0.25, .idle = true});
}

TEST_CASE("all tokens may choose experts of one rank") {
  compare_at(few(), {.name = "one rank", .dropout = 0.1, .one_rank = true, .balance = 0.2});
  compare_at(few(), {.name = "one rank and an idle one", .one_rank = true, .idle = true});
}

TEST_CASE("in rounds the mixture follows the same formula") {
  // A token chooses 2 experts and a layout has at least 13 tokens, so one of up to 4 ranks gets 7 rows.
  using model::Recompute;
  compare_at(all(), {.name = "rounds", .dropout = 0.25, .balance = 0.2, .most_rows = 5});
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    compare_at(few(), {.name = "idle", .dropout = 0.25, .idle = true, .most_rows = 4, .recompute = recompute});
    compare_at(few(), {.name = "one rank", .dropout = 0.1, .one_rank = true, .most_rows = 9, .recompute = recompute});
  }
  compare_at(few(), {.name = "row by row, idle", .one_rank = true, .idle = true, .most_rows = 1});
  compare_at(few(), {.name = "zero Up", .dropout = 0.1, .up_is_zero = true, .most_rows = 3});
}

TEST_CASE("experts of limited capacity take the first tokens of each sequence, on any grid") {
  using model::BalanceScope;
  compare_at(all(), {.name = "an even share", .dropout = 0.25, .balance = 0.3, .capacity = 1});
  compare_at(all(), {.name = "less", .scope = BalanceScope::sequence, .capacity = 0.25});
  compare_at(few(), {.name = "an idle rank", .dropout = 0.1, .idle = true, .capacity = 0.75});
  compare_at(few(), {.name = "one rank", .one_rank = true, .balance = 0.2, .capacity = 1.25});
  compare_at(few(), {.name = "in rounds",
                     .dropout = 0.1,
                     .one_rank = true,
                     .idle = true,
                     .most_rows = 2,
                     .recompute = model::Recompute::full,
                     .capacity = 1.25});
}

TEST_CASE("the balance gradient enters at the router, for both scopes") {
  using model::BalanceScope;
  compare_at(few(), {.name = "batch", .dropout = 0.1, .balance = 0.3, .scope = BalanceScope::batch});
  compare_at(few(), {.name = "sequence", .dropout = 0.1, .balance = 0.3, .scope = BalanceScope::sequence});
  compare_at(few(), {.name = "batch, idle", .balance = 0.3, .scope = BalanceScope::batch, .idle = true});
  compare_at(few(), {.name = "sequence, idle", .balance = 0.3, .scope = BalanceScope::sequence, .idle = true});
}

TEST_CASE("while Up is zero the router gets exactly no task gradient") {
  compare_at(few(), {.name = "zero Up", .dropout = 0.1, .up_is_zero = true});
}

}  // namespace caravan::tests
