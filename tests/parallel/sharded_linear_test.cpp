// SPDX-License-Identifier: Apache-2.0
// Sharded linears with low-rank updates against the formula on whole tensors with torch's own autograd. Each
// data-parallel rank has tokens of its own; the naive side sees all of them at once.
#include "parallel/sharded_linear.hpp"

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

// Sums of up to 60 products of numbers below 2 in fp32, in another order: 60 · 4 · 6e-8 = 1.4e-5 at worst, and about
// the root of that many roundings (2e-6) in fact.
constexpr double tolerance = 1e-5;
constexpr std::int64_t in = 24, out_q = 16, out_k = 8, rank = 3;
constexpr double scale = 0.75;
constexpr std::uint64_t mask_key = 4711;

struct Case {
  double dropout;
  bool lora_q, lora_k;
};
const std::vector<Case> cases{{0.25, true, true}, {0, true, true}, {0.25, false, true}, {0, false, false}};

/// Tokens of each data-parallel rank: numbers that TP does not divide, fewer than TP, none.
std::vector<std::int64_t> tokens_of_ranks(int dp, bool any) {
  std::vector<std::int64_t> tokens;
  for (int d = 0; d < dp; ++d) tokens.push_back(!any || (d > 0 && d == dp - 1) ? 0 : (d % 2 == 0 ? 13 : 3));
  return tokens;
}

/// A linear in the naive form; a and b are undefined without LoRA.
struct NaiveLinear {
  at::Tensor weight, a, b;
  at::Tensor forward(const at::Tensor& x, const at::Tensor& dropped) const {
    const at::Tensor y = at::mm(x, weight.t());
    return a.defined() ? y + at::mm(at::mm(dropped, a.t()), b.t()) * scale : y;
  }
};

/// One or two linears on the grid and their naive form.
struct Linears {
  Linears(const OnGrid& grid, const std::vector<layout::ParameterSpec>& specs)
      : source(random_parameters(specs)), parameters(specs, grid.context) {
    parameters.load_frozen(source);
    parameters.load_trainable(source);
  }
  parallel::LinearParts parts(const std::string& name, bool lora) {
    parallel::LinearParts result{&parameters.frozen(name + ".weight")};
    if (lora) {
      result.a = &parameters.trainable(name + ".a");
      result.b = &parameters.trainable(name + ".b");
    }
    return result;
  }
  NaiveLinear naive(const std::string& name, bool lora) {
    NaiveLinear result{source.tensors.at(name + ".weight"), {}, {}};
    if (lora) {
      result.a = leaves[name + ".a"] = leaf(source.tensors.at(name + ".a"));
      result.b = leaves[name + ".b"] = leaf(source.tensors.at(name + ".b"));
    }
    return result;
  }
  void compare_gradients() {
    for (const auto& [name, gradient] : reduced_gradients(parameters)) {
      CAPTURE(name);
      const auto found = leaves.find(name);
      const at::Tensor wanted =
          found == leaves.end() ? at::zeros_like(source.tensors.at(name)) : gradient_of(found->second);
      CHECK(max_difference(gradient, part_of(wanted, parameters.trainable(name).slice)) < tolerance);
    }
  }

  MemorySource source;
  parallel::Parameters parameters;
  std::map<std::string, at::Tensor> leaves;
};

/// [out, in + r]: the last columns are scale · B, so that [x | u] times it is the whole product.
class JoinedWeight final : public parallel::FrozenWeight {
 public:
  JoinedWeight(const at::Tensor& weight, const parallel::LowRank& update)
      : all_(at::cat({weight, update.b * update.scale}, 1)), in_(weight.size(1)) {}
  std::int64_t out_features() const override { return all_.size(0); }
  at::Tensor multiply(const at::Tensor&, const at::Tensor&) const override { core::internal_error("not asked for"); }
  at::Tensor multiply_transposed(const at::Tensor&, at::Tensor) const override {
    core::internal_error("not asked for");
  }
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& u,
                      const parallel::LowRank&) const override {
    ++products;
    CHECK_FALSE(bias.defined());
    return at::mm(at::cat({x, u}, 1), all_.t());
  }
  parallel::InputGradients multiply_transposed(const at::Tensor& dy, at::Tensor sum,
                                               const parallel::LowRank&) const override {
    ++products;
    CHECK_FALSE(sum.defined());
    const at::Tensor both = at::mm(dy, all_);
    return {both.narrow(1, 0, in_).contiguous(), both.narrow(1, in_, both.size(1) - in_).contiguous()};
  }
  at::Tensor rows(const at::Tensor& index) const override { return all_.index_select(0, index); }

  mutable int products = 0;

 private:
  at::Tensor all_;
  std::int64_t in_;
};

layout::ParameterSpec frozen(const std::string& name, layout::Shape shape, std::size_t dimension) {
  return {name, std::move(shape), core::DType::f32, layout::Split{dimension, layout::Axis::tp}, false};
}
layout::ParameterSpec trainable(const std::string& name, layout::Shape shape, std::optional<layout::Split> split) {
  return {name, std::move(shape), core::DType::f32, split, true};
}

/// The tokens of all data-parallel ranks and where this rank's stand among them.
struct Tokens {
  Tokens(const OnGrid& grid, const std::vector<std::int64_t>& counts) {
    std::vector<data::TokenBatch> batches;
    for (std::size_t d = 0; d < counts.size(); ++d) {
      batches.push_back(random_batch({counts[d]}, 100 * d, 50));
      if (static_cast<int>(d) < grid.context.grid.dp_rank()) begin += counts[d];
    }
    mine = batches[static_cast<std::size_t>(grid.context.grid.dp_rank())];
    all = joined(batches);
  }
  /// This rank's tokens of a tensor of all tokens, with zeros for pads.
  at::Tensor here(const at::Tensor& whole, const parallel::TokenAxis& axis) const {
    return padded(whole.narrow(0, begin, axis.real), axis.tokens);
  }
  data::TokenBatch mine, all;
  std::int64_t begin = 0;
};

void compare_column_linears(const OnGrid& grid, const Case& which, const std::vector<std::int64_t>& counts) {
  using layout::Axis;
  Linears linears(
      grid, {frozen("q.weight", {out_q, in}, 0), trainable("q.a", {rank, in}, {}),
             trainable("q.b", {out_q, rank}, layout::Split{0, Axis::tp}), frozen("k.weight", {out_k, in}, 0),
             trainable("k.a", {rank + 1, in}, {}), trainable("k.b", {out_k, rank + 1}, layout::Split{0, Axis::tp})});
  const Tokens tokens(grid, counts);
  const auto total = static_cast<std::int64_t>(tokens.all.tokens.size());
  const at::Tensor x = noise({total, in}, "x"), cq = noise({total, out_q}, "cq"), ck = noise({total, out_k}, "ck");

  const at::Tensor naive_x = leaf(x);
  const at::Tensor dropped = naive_x * dropout_factors(mask_key, tokens.all.identity, in, which.dropout);
  const at::Tensor naive_q = linears.naive("q", which.lora_q).forward(naive_x, dropped);
  const at::Tensor naive_k = linears.naive("k", which.lora_k).forward(naive_x, dropped);
  ((naive_q * cq).sum() + (naive_k * ck).sum()).backward();

  const parallel::TokenAxis axis(parallel::token_rows(tokens.mine), grid.context);
  const parallel::ColumnLinears column(grid.context,
                                       {linears.parts("q", which.lora_q), linears.parts("k", which.lora_k)}, scale);
  const at::Tensor shard = leaf(axis.shard_of(tokens.here(x, axis)));
  const auto y = column.forward(shard, axis, {mask_key, which.dropout, 0});
  const auto columns = [&](const at::Tensor& whole) {
    const std::int64_t width = whole.size(1) / grid.context.grid.tp();
    return tokens.here(whole, axis).narrow(1, width * grid.context.grid.tp_rank(), width);
  };
  CHECK(max_difference(y[0], columns(naive_q.detach())) < tolerance);
  CHECK(max_difference(y[1], columns(naive_k.detach())) < tolerance);
  ((y[0] * columns(cq)).sum() + (y[1] * columns(ck)).sum()).backward();
  CHECK(max_difference(gradient_of(shard), axis.shard_of(tokens.here(gradient_of(naive_x), axis))) < tolerance);
  linears.compare_gradients();
}

void compare_row_linear(const OnGrid& grid, const Case& which, const std::vector<std::int64_t>& counts) {
  using layout::Axis;
  Linears linears(grid, {frozen("o.weight", {out_q, in}, 1), trainable("o.a", {rank, in}, layout::Split{1, Axis::tp}),
                         trainable("o.b", {out_q, rank}, {})});
  const Tokens tokens(grid, counts);
  const auto total = static_cast<std::int64_t>(tokens.all.tokens.size());
  const at::Tensor z = noise({total, in}, "z"), c = noise({total, out_q}, "c");

  const at::Tensor naive_z = leaf(z);
  const at::Tensor dropped = naive_z * dropout_factors(mask_key, tokens.all.identity, in, which.dropout);
  const at::Tensor naive_y = linears.naive("o", which.lora_q).forward(naive_z, dropped);
  (naive_y * c).sum().backward();

  const parallel::TokenAxis axis(parallel::token_rows(tokens.mine), grid.context);
  const parallel::RowLinear row(grid.context, linears.parts("o", which.lora_q), scale);
  const std::int64_t width = in / grid.context.grid.tp();
  const auto columns = [&](const at::Tensor& whole) {
    return tokens.here(whole, axis).narrow(1, width * grid.context.grid.tp_rank(), width).contiguous();
  };
  const at::Tensor slice = leaf(columns(z));
  const at::Tensor y = row.forward(slice, axis, {mask_key, which.dropout, 0});
  CHECK(max_difference(y, axis.shard_of(tokens.here(naive_y.detach(), axis))) < tolerance);
  (y * axis.shard_of(tokens.here(c, axis))).sum().backward();
  CHECK(max_difference(gradient_of(slice), columns(gradient_of(naive_z))) < tolerance);
  linears.compare_gradients();
}

template <typename Work>
void for_each_case(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (ep > 1) continue;
    const OnGrid grid(tp, ep);
    for (const Case& which : cases) {
      for (const bool any : {true, false}) {
        CAPTURE(tp, which.dropout, which.lora_q, which.lora_k, any);
        work(grid, which, tokens_of_ranks(grid.context.grid.dp(), any));
      }
    }
  }
}

}  // namespace

TEST_CASE("a weight may hold LoRA's second factor among its own columns") {
  const OnGrid grid(1, 1);
  const auto specs = [](const std::string& name) {
    return std::vector<layout::ParameterSpec>{
        frozen(name + ".weight", {out_q, in}, 0), trainable(name + ".a", {rank, in}, {}),
        trainable(name + ".b", {out_q, rank}, layout::Split{0, layout::Axis::tp})};
  };
  Linears linears(grid, specs("q"));
  const Tokens tokens(grid, std::vector<std::int64_t>(static_cast<std::size_t>(grid.context.grid.dp()), 13));
  const parallel::TokenAxis axis(parallel::token_rows(tokens.mine), grid.context);
  parallel::LinearParts apart = linears.parts("q", true), joined = apart;
  const JoinedWeight weight(linears.source.tensors.at("q.weight"), joined.update(scale));
  joined.base = &weight;
  const at::Tensor c = noise({axis.shard, out_q}, "c"), x = noise({axis.shard, in}, "x");
  const auto run = [&](const auto& linear, const auto& output) {
    linears.parameters.zero_gradients();
    const at::Tensor input = leaf(x);
    const at::Tensor y = output(linear.forward(input, axis, {mask_key, 0.25, 0}));
    (y * c).sum().backward();
    return std::vector<at::Tensor>{y.detach(), gradient_of(input), linears.parameters.buckets()[0].gradients.clone()};
  };
  const auto same = [&](const auto& a, const auto& b) {
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(max_difference(a[i], b[i]) < tolerance);
  };
  const auto first = [](const std::vector<parallel::Activation>& y) { return y[0].value; };
  same(run(parallel::ColumnLinears(grid.context, {joined}, scale), first),
       run(parallel::ColumnLinears(grid.context, {apart}, scale), first));
  const auto only = [](const parallel::Activation& y) { return y.value; };
  same(run(parallel::RowLinear(grid.context, joined, scale), only),
       run(parallel::RowLinear(grid.context, apart, scale), only));
  CHECK(weight.products == 4);  // nobody has made them apart
}

TEST_CASE("an output of column-parallel linears that nothing is made of has gradient zero") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (ep > 1) continue;
    CAPTURE(tp);
    const OnGrid grid(tp, ep);
    const Tokens tokens(grid, tokens_of_ranks(grid.context.grid.dp(), true));
    const parallel::TokenAxis axis(parallel::token_rows(tokens.mine), grid.context);
    using layout::Axis;
    Linears linears(
        grid, {frozen("q.weight", {out_q, in}, 0), trainable("q.a", {rank, in}, {}),
               trainable("q.b", {out_q, rank}, layout::Split{0, Axis::tp}), frozen("k.weight", {out_k, in}, 0),
               trainable("k.a", {rank + 1, in}, {}), trainable("k.b", {out_k, rank + 1}, layout::Split{0, Axis::tp})});
    const parallel::ColumnLinears column(grid.context, {linears.parts("q", true), linears.parts("k", true)}, scale);
    std::vector<std::vector<at::Tensor>> results;
    for (const bool with_zeros : {false, true}) {
      linears.parameters.zero_gradients();
      const at::Tensor shard = leaf(noise({axis.shard, in}, "x"));
      const auto y = column.forward(shard, axis, {mask_key, 0.25, 0});
      const at::Tensor used = (y[1].value * noise(y[1].value.sizes().vec(), "c")).sum();
      (with_zeros ? used + (y[0].value * 0).sum() : used).backward();
      std::vector<at::Tensor> result{gradient_of(shard)};
      for (const auto& [name, gradient] : reduced_gradients(linears.parameters)) result.push_back(gradient);
      results.push_back(result);
    }
    for (std::size_t i = 0; i < results[0].size(); ++i) CHECK(results[0][i].equal(results[1][i]));
    CHECK(linears.parameters.trainable("q.b").gradient.eq(0).all().item<bool>());
  }
}

TEST_CASE("column-parallel linears: outputs, input gradient, LoRA gradients") { for_each_case(compare_column_linears); }

TEST_CASE("a row-parallel linear: output, input gradient, LoRA gradients") { for_each_case(compare_row_linear); }

TEST_CASE("the same linears give the same bits when they run again") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (ep > 1) continue;
    const OnGrid grid(tp, ep);
    const std::vector<layout::ParameterSpec> specs{frozen("q.weight", {out_q, in}, 0), trainable("q.a", {rank, in}, {}),
                                                   trainable("q.b", {out_q, rank}, layout::Split{0, layout::Axis::tp})};
    Linears linears(grid, specs);
    const Tokens tokens(grid, tokens_of_ranks(grid.context.grid.dp(), true));
    const parallel::TokenAxis axis(parallel::token_rows(tokens.mine), grid.context);
    const parallel::ColumnLinears column(grid.context, {linears.parts("q", true)}, scale);
    std::vector<at::Tensor> results;
    for (int run = 0; run < 2; ++run) {
      linears.parameters.zero_gradients();
      const at::Tensor shard = leaf(noise({axis.shard, in}, "x"));
      const at::Tensor y = column.forward(shard, axis, {mask_key, 0.1, 0})[0];
      (y * noise(y.sizes().vec(), "c")).sum().backward();
      results.push_back(at::cat(
          {y.detach().flatten(), gradient_of(shard).flatten(), linears.parameters.buckets()[0].gradients.clone()}));
    }
    CHECK(results[0].equal(results[1]));
  }
}

}  // namespace caravan::tests
