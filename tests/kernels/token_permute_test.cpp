// SPDX-License-Identifier: Apache-2.0
#include "kernels/token_permute.hpp"

#include <algorithm>

#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;
namespace core = caravan::core;

namespace {

/// Choices of k different experts per token, with pads, and one expert that nobody chooses.
struct Permutation {
  RouterShape shape;
  std::vector<std::int32_t> indices;
  std::vector<std::int64_t> counts;
  std::vector<std::int32_t> slot_token;
  std::vector<std::int32_t> token_slot;
  std::vector<std::uint64_t> tokens;
  std::vector<std::uint64_t> keys;
  std::int64_t slots = 0;
};

Permutation permutation(std::int64_t tokens, std::int64_t experts, std::int64_t topk) {
  Permutation p;
  p.shape = {tokens, experts, topk};
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto draw = core::philox(1, static_cast<std::uint64_t>(t))[0];
    for (std::int64_t j = 0; j < topk; ++j) {
      const auto expert =
          static_cast<std::int32_t>((draw + static_cast<std::uint64_t>(j)) % static_cast<std::uint64_t>(experts - 1));
      p.indices.push_back(t % 7 == 3 ? -1 : expert + (expert >= 2 ? 1 : 0));
    }
  }
  p.counts.assign(static_cast<std::size_t>(experts), 99);
  p.slot_token.assign(p.indices.size(), 99);
  p.token_slot.assign(p.indices.size(), 99);
  permute_by_expert(Execution{}, p.indices.data(), p.shape, p.counts.data(), p.slot_token.data(), p.token_slot.data());
  for (const std::int64_t count : p.counts) p.slots += count;
  p.tokens = random_tokens(tokens);
  for (std::int64_t e = 0; e < experts; ++e) {
    p.keys.push_back(core::random_key(5, core::RandomUse::expert_dropout, 2, static_cast<std::uint64_t>(e)));
  }
  return p;
}

bool kept(const Permutation& p, std::size_t flat, std::size_t unit, double probability) {
  const auto token = flat / static_cast<std::size_t>(p.shape.topk);
  const auto key = core::dropout_row_key(p.keys[static_cast<std::size_t>(p.indices[flat])], p.tokens[token]);
  return core::dropout_bits(key, static_cast<std::uint32_t>(unit)) >= core::dropout_threshold(probability);
}

const std::vector<RouterShape> shapes{{1, 4, 1}, {30, 4, 2}, {41, 9, 4}, {5000, 16, 2}};  // the last: several chunks

}  // namespace

TEST_CASE("permute_by_expert sorts stably and inverts") {
  for (const RouterShape& shape : shapes) {
    const Permutation p = permutation(shape.tokens, shape.experts, shape.topk);
    std::vector<std::int32_t> expected;
    std::vector<std::int64_t> counts(static_cast<std::size_t>(shape.experts), 0);
    for (std::size_t flat = 0; flat < p.indices.size(); ++flat) {
      if (p.indices[flat] < 0) continue;
      expected.push_back(static_cast<std::int32_t>(flat));
      ++counts[static_cast<std::size_t>(p.indices[flat])];
    }
    std::stable_sort(expected.begin(), expected.end(), [&](std::int32_t a, std::int32_t b) {
      return p.indices[static_cast<std::size_t>(a)] < p.indices[static_cast<std::size_t>(b)];
    });
    CHECK(p.counts == counts);
    REQUIRE(p.slots == static_cast<std::int64_t>(expected.size()));
    CHECK(std::vector<std::int32_t>(p.slot_token.begin(), p.slot_token.begin() + p.slots) == expected);
    std::vector<std::int32_t> inverse(p.indices.size(), -1);
    for (std::size_t slot = 0; slot < expected.size(); ++slot) {
      inverse[static_cast<std::size_t>(expected[slot])] = static_cast<std::int32_t>(slot);
    }
    CHECK(p.token_slot == inverse);
  }
}

TEST_CASE("permute_by_expert of no tokens has counts of zero") {
  std::vector<std::int64_t> counts(4, 99);
  permute_by_expert(Execution{}, nullptr, {0, 4, 2}, counts.data(), nullptr, nullptr);
  CHECK(counts == std::vector<std::int64_t>(4, 0));
}

TEMPLATE_TEST_CASE("rows go out to the experts and come back", "", float, Bf16) {
  constexpr std::int64_t hidden = 531;  // more than one piece of a sum
  constexpr auto width = static_cast<std::size_t>(hidden);
  for (const double probability : {0.0, 0.25}) {
    const Permutation p = permutation(30, 5, 3);
    const auto topk = static_cast<std::size_t>(p.shape.topk);
    const auto y = random_values<TestType>(1, p.shape.tokens * hidden, 2);
    const auto rows = random_values<TestType>(2, p.slots * hidden, 2);
    const auto in = widen(y);
    const auto back = widen(rows);
    std::vector<TestType> plain(rows.size());
    std::vector<TestType> dropped(rows.size());
    std::vector<TestType> sum(y.size());
    std::vector<TestType> dy(y.size());
    gather_rows(Execution{}, y.data(), plain.data(), p.slots, hidden, p.slot_token.data(), p.shape.topk);
    gather_dropout(Execution{}, y.data(), dropped.data(), p.slots, hidden, p.slot_token.data(), p.indices.data(),
                   p.shape.topk, p.tokens.data(), p.keys.data(), probability);
    combine(Execution{}, y.data(), rows.data(), sum.data(), p.shape.tokens, hidden, p.shape.topk, p.token_slot.data());
    combine_dropout_backward(Execution{}, y.data(), rows.data(), dy.data(), p.shape.tokens, hidden, p.shape.topk,
                             p.token_slot.data(), p.indices.data(), p.tokens.data(), p.keys.data(), probability);

    std::vector<double> expected_plain(rows.size());
    std::vector<double> expected_dropped(rows.size());
    auto expected_sum = in;
    auto expected_dy = in;
    for (std::size_t slot = 0; slot < static_cast<std::size_t>(p.slots); ++slot) {
      const auto flat = static_cast<std::size_t>(p.slot_token[slot]);
      for (std::size_t c = 0; c < width; ++c) {
        const std::size_t from = flat / topk * width + c;
        const double factor = kept(p, flat, c, probability) ? 1 / (1 - probability) : 0.0;
        expected_plain[slot * width + c] = in[from];
        expected_dropped[slot * width + c] = in[from] * factor;
        expected_sum[from] += back[slot * width + c];
        expected_dy[from] += back[slot * width + c] * factor;
      }
    }
    CHECK(widen(plain) == expected_plain);
    check_close(dropped, expected_dropped, 0);
    // Four fp32 terms of up to 2.7 that may cancel.
    check_close(sum, expected_sum, 2e-6);
    check_close(dy, expected_dy, 2e-6);
    for (std::size_t t = 0; t < in.size() / width; ++t) {
      if (p.indices[t * topk] >= 0) continue;
      const auto begin = static_cast<std::ptrdiff_t>(t * width);
      const auto piece = [&](const std::vector<TestType>& all) {
        return widen(std::vector<TestType>(all.begin() + begin, all.begin() + begin + hidden));
      };
      CHECK(piece(sum) == piece(y));  // pads pass
      CHECK(piece(dy) == piece(y));
    }
    auto in_place = y;
    combine(Execution{}, in_place.data(), rows.data(), in_place.data(), p.shape.tokens, hidden, p.shape.topk,
            p.token_slot.data());
    CHECK(widen(in_place) == widen(sum));
  }
}

TEST_CASE("an expert's mask knows the token and the expert, not the batch around them") {
  constexpr std::int64_t hidden = 64;
  const Permutation p = permutation(30, 5, 3);
  const std::vector<float> ones(static_cast<std::size_t>(p.shape.tokens * hidden), 1.0F);
  std::vector<float> all(static_cast<std::size_t>(p.slots * hidden));
  gather_dropout(Execution{}, ones.data(), all.data(), p.slots, hidden, p.slot_token.data(), p.indices.data(),
                 p.shape.topk, p.tokens.data(), p.keys.data(), 0.5);
  // Token 18 alone, its choices in reverse: each of its experts must drop the same units.
  constexpr std::size_t token = 18;
  std::vector<std::int32_t> indices(p.indices.begin() + token * 3, p.indices.begin() + token * 3 + 3);
  std::reverse(indices.begin(), indices.end());
  std::vector<std::int64_t> counts(5);
  std::vector<std::int32_t> slot_token(3);
  std::vector<std::int32_t> token_slot(3);
  permute_by_expert(Execution{}, indices.data(), {1, 5, 3}, counts.data(), slot_token.data(), token_slot.data());
  std::vector<float> alone(3 * hidden);
  gather_dropout(Execution{}, ones.data(), alone.data(), 3, hidden, slot_token.data(), indices.data(), 3,
                 &p.tokens[token], p.keys.data(), 0.5);
  for (std::size_t j = 0; j < 3; ++j) {
    const auto there = all.begin() + p.token_slot[token * 3 + 2 - j] * hidden;
    const auto here = alone.begin() + token_slot[j] * hidden;
    CHECK(std::equal(here, here + hidden, there));
  }
}

TEST_CASE("no slots and no tokens move nothing") {
  float value = 3;
  gather_rows(Execution{}, &value, &value, 0, 8, nullptr, 2);
  gather_dropout(Execution{}, &value, &value, 0, 8, nullptr, nullptr, 2, nullptr, nullptr, 0.5);
  combine(Execution{}, &value, &value, &value, 0, 8, 2, nullptr);
  combine_dropout_backward(Execution{}, &value, &value, &value, 0, 8, 2, nullptr, nullptr, nullptr, nullptr, 0.5);
  CHECK(value == 3);
}
