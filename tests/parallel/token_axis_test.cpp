// SPDX-License-Identifier: Apache-2.0
// The token axis: pads behind the tokens, and equal shards.
#include "parallel/token_axis.hpp"

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

template <typename T, typename Value>
void check(const at::Tensor& got, const std::vector<Value>& values, std::int64_t tokens, T pad) {
  REQUIRE(got.sizes() == at::IntArrayRef({tokens}));
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto i = static_cast<std::size_t>(t);
    CHECK(got.const_data_ptr<T>()[t] == (i < values.size() ? static_cast<T>(values[i]) : pad));
  }
}

}  // namespace

TEST_CASE("the axis has the batch's tokens, then pads that belong to no sequence") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (ep > 1) continue;
    const OnGrid grid(tp, ep);
    for (const auto& lengths : {std::vector<std::int64_t>{5, 1, 3}, {4, 4}, {1}, {}}) {
      const data::TokenBatch batch = random_batch(lengths, 3, 1000);
      const auto real = static_cast<std::int64_t>(batch.tokens.size());
      CAPTURE(tp, real);
      const parallel::TokenAxis axis(parallel::token_rows(batch), grid.context);
      CHECK(axis.real == real);
      CHECK(axis.tokens % tp == 0);
      CHECK(axis.tokens >= real);
      CHECK(axis.tokens - real < tp);
      CHECK(axis.shard * tp == axis.tokens);
      CHECK(axis.shard_begin == axis.shard * grid.context.grid.tp_rank());
      CHECK(axis.sequences == static_cast<std::int64_t>(lengths.size()));
      CHECK(axis.document_starts == batch.document_starts);
      check<std::int64_t>(axis.ids, batch.tokens, axis.tokens, -1);
      check<std::int32_t>(axis.positions, batch.positions, axis.tokens, 0);
      check<std::int32_t>(axis.sequence, batch.sequence, axis.tokens, -1);
      check<std::int64_t>(axis.identity, batch.identity, axis.tokens, 0);
      const parallel::TokenTargets targets = axis.targets_of(batch.targets);
      std::vector<std::int64_t> with_target, wanted;
      for (std::size_t t = 0; t < batch.targets.size(); ++t) {
        if (batch.targets[t] < 0) continue;
        with_target.push_back(static_cast<std::int64_t>(t));
        wanted.push_back(batch.targets[t]);
      }
      const auto count = static_cast<std::int64_t>(wanted.size());
      check<std::int64_t>(targets.rows, with_target, count, 0);
      check<std::int64_t>(targets.ids, wanted, count, 0);
      const at::Tensor rows = at::arange(axis.tokens, at::kLong);
      CHECK(axis.shard_of(rows).equal(at::arange(axis.shard_begin, axis.shard_begin + axis.shard, at::kLong)));
    }
  }
}

}  // namespace caravan::tests
