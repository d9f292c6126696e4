// SPDX-License-Identifier: Apache-2.0
// Embedding, loss and logits over a cut vocabulary against whole tensors (the loss in fp64).
#include "parallel/vocabulary.hpp"

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

constexpr std::int64_t width = 12;

struct Vocabulary {
  Vocabulary(const OnGrid& grid, std::int64_t vocabulary)
      : size(vocabulary),
        parameters({{"table", {vocabulary, width}, core::DType::f32, layout::Split{0, layout::Axis::tp}, false}},
                   grid.context) {
    source.tensors["table"] = noise({vocabulary, width}, "table");
    parameters.load_frozen(source);
  }
  const parallel::FrozenWeight& weight() const { return parameters.frozen("table"); }
  const at::Tensor& whole() const { return source.tensors.at("table"); }

  std::int64_t size;
  MemorySource source;
  parallel::Parameters parameters;
};

template <typename Work>
void at_every_tp(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (ep > 1) continue;
    CAPTURE(tp);
    const OnGrid grid(tp, ep);
    // TP 2 and 4 divide 40; of 41 the last rank has fewer, and of 5 at TP 4 it has none.
    for (const std::int64_t vocabulary : {40, 41, 5}) {
      CAPTURE(vocabulary);
      work(grid, Vocabulary(grid, vocabulary));
    }
  }
}

/// Tokens of this data-parallel rank; odd numbers, so that most TP sizes make pads.
data::TokenBatch batch_here(const OnGrid& grid, const Vocabulary& parts, std::int64_t tokens) {
  return random_batch({tokens}, 10 * static_cast<std::uint64_t>(grid.context.grid.dp_rank()), parts.size);
}

struct NaiveLoss {
  double sum = 0;
  at::Tensor gradient;
};

NaiveLoss naive_loss(const at::Tensor& x, const at::Tensor& head, const std::vector<std::int32_t>& all_targets,
                     double scale) {
  const at::Tensor input = leaf(x.to(at::kDouble));
  const at::Tensor targets = at::tensor(at::ArrayRef<std::int32_t>(all_targets), at::kLong);
  const at::Tensor rows = targets.ge(0).nonzero().squeeze(1);
  const at::Tensor log_p = at::mm(input.index_select(0, rows), head.to(at::kDouble).t()).log_softmax(1);
  const at::Tensor loss = log_p.gather(1, targets.index_select(0, rows).unsqueeze(1)).sum().neg();
  (loss * scale).backward();
  return {loss.item<double>(), gradient_of(input)};
}

/// size: of the inputs; large ones make logits whose exponentials overflow fp32.
void compare_loss(const OnGrid& grid, const Vocabulary& vocabulary_parts, const data::TokenBatch& batch, double size) {
  const parallel::TokenAxis axis(parallel::token_rows(batch), grid.context);
  const parallel::TokenTargets targets = axis.targets_of(batch.targets);
  const at::Tensor x = padded(noise({axis.real, width}, "x", size), axis.tokens);
  const double scale = 1.0 / 37;
  const NaiveLoss wanted = naive_loss(x, vocabulary_parts.whole(), batch.targets, scale);
  const at::Tensor shard = leaf(axis.shard_of(x));
  const parallel::TokenLoss got =
      parallel::token_loss(grid.context, vocabulary_parts.weight(), vocabulary_parts.size, shard, targets, scale);
  // fp32 logits of up to `size` · 12 have an error of 1e-7 of that, and so has the loss.
  CHECK(got.sum.item<double>() == Approx(wanted.sum).epsilon(2e-6).margin(1e-12));
  CHECK(got.loss.item<double>() == Approx(wanted.sum * scale).epsilon(2e-6).margin(1e-12));
  (got.loss * 2.0).backward();
  // Gradients are below 2 · 12 / 37 = 0.65; the softmax has the logits' absolute error as a relative one.
  CHECK(max_difference(gradient_of(shard), axis.shard_of(wanted.gradient) * 2.0) < 1e-6 * std::max(1.0, size));
  // Scoring without a graph is the same number.
  CHECK(parallel::token_loss(grid.context, vocabulary_parts.weight(), vocabulary_parts.size, shard.detach(), targets,
                             scale)
            .sum.equal(got.sum));
}

}  // namespace

TEST_CASE("embeddings are rows of the table, and pads get zeros") {
  at_every_tp([](const OnGrid& grid, const Vocabulary& parts) {
    for (const std::int64_t tokens : {13, 3, 1, 0}) {
      const data::TokenBatch batch = batch_here(grid, parts, tokens);
      const parallel::TokenAxis axis(parallel::token_rows(batch), grid.context);
      const at::Tensor ids = axis.ids.narrow(0, 0, axis.real);
      const at::Tensor wanted = padded(parts.whole().index_select(0, ids), axis.tokens);
      // One rank of the group has the row and the others add zeros: exact.
      CHECK(parallel::embed(grid.context, parts.weight(), axis).equal(axis.shard_of(wanted)));
    }
  });
}

TEST_CASE("loss and its gradient over a cut vocabulary") {
  at_every_tp([](const OnGrid& grid, const Vocabulary& parts) {
    compare_loss(grid, parts, batch_here(grid, parts, 13), 1);
    compare_loss(grid, parts, batch_here(grid, parts, 13), 100);
    compare_loss(grid, parts, batch_here(grid, parts, 1), 1);
    compare_loss(grid, parts, batch_here(grid, parts, 2001), 1);  // more targets than one chunk of logits
  });
}

TEST_CASE("tokens without any target have no loss and no gradient") {
  at_every_tp([](const OnGrid& grid, const Vocabulary& parts) {
    for (const std::int64_t tokens : {7, 0}) {
      data::TokenBatch batch = batch_here(grid, parts, tokens);
      std::fill(batch.targets.begin(), batch.targets.end(), -100);
      const parallel::TokenAxis axis(parallel::token_rows(batch), grid.context);
      const at::Tensor shard = leaf(noise({axis.shard, width}, "x"));
      const parallel::TokenLoss got =
          parallel::token_loss(grid.context, parts.weight(), parts.size, shard, axis.targets_of(batch.targets), 1.0);
      CHECK(got.sum.item<double>() == 0);
      CHECK(got.loss.item<double>() == 0);
      got.loss.backward();
      CHECK(gradient_of(shard).equal(at::zeros_like(shard)));
    }
  });
}

TEST_CASE("logits of chosen rows are whole on every rank") {
  at_every_tp([](const OnGrid& grid, const Vocabulary& parts) {
    const data::TokenBatch batch = batch_here(grid, parts, 13);
    const parallel::TokenAxis axis(parallel::token_rows(batch), grid.context);
    const at::Tensor x = padded(noise({axis.real, width}, "x"), axis.tokens);
    const at::Tensor rows = at::tensor({12, 0, 5, 5}, at::kLong);
    const at::Tensor got = parallel::logits(grid.context, parts.weight(), parts.size, axis.shard_of(x), rows);
    // Twelve products of numbers below one: 12 · 6e-8.
    CHECK(max_difference(got, at::mm(x.index_select(0, rows), parts.whole().t())) < 1e-6);
    CHECK(got.sizes() == at::IntArrayRef({4, parts.size}));
    CHECK_FALSE(got.requires_grad());
  });
}

}  // namespace caravan::tests
