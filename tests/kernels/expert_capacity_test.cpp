// SPDX-License-Identifier: Apache-2.0
#include "kernels/expert_capacity.hpp"

#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;
namespace core = caravan::core;

namespace {

/// Sequences of these lengths one after another, then pads; each token has k different experts.
struct Choices {
  RouterShape shape;
  std::vector<std::int32_t> sequence;
  std::vector<std::int32_t> indices;
};

Choices choices(const std::vector<std::int64_t>& lengths, std::int64_t pads, std::int64_t experts, std::int64_t topk) {
  Choices c;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    c.sequence.insert(c.sequence.end(), static_cast<std::size_t>(lengths[s]), static_cast<std::int32_t>(s));
  }
  c.sequence.insert(c.sequence.end(), static_cast<std::size_t>(pads), -1);
  c.shape = {static_cast<std::int64_t>(c.sequence.size()), experts, topk};
  for (std::size_t t = 0; t < c.sequence.size(); ++t) {
    const auto drawn = core::philox(1, t)[0] % static_cast<std::uint64_t>(experts);
    for (std::int64_t j = 0; j < topk; ++j) {
      const auto expert =
          static_cast<std::int32_t>((drawn + static_cast<std::uint64_t>(j)) % static_cast<std::uint64_t>(experts));
      c.indices.push_back(c.sequence[t] < 0 ? -1 : expert);
    }
  }
  return c;
}

struct Result {
  std::vector<std::int32_t> kept;
  std::vector<std::int64_t> taken;
  bool operator==(const Result&) const = default;
};

/// One assignment after the other.
Result one_by_one(const Choices& c, const std::vector<std::int64_t>& limit, std::vector<std::int64_t> taken) {
  Result result{c.indices, std::move(taken)};
  for (std::size_t at = 0; at < c.indices.size(); ++at) {
    if (c.indices[at] < 0) continue;
    const auto row = static_cast<std::size_t>(c.sequence[at / static_cast<std::size_t>(c.shape.topk)]);
    auto& count =
        result.taken[row * static_cast<std::size_t>(c.shape.experts) + static_cast<std::size_t>(c.indices[at])];
    if (count >= limit[row]) result.kept[at] = -1;
    ++count;
  }
  return result;
}

Result run(const Choices& c, std::int64_t first, std::int64_t tokens, const std::vector<std::int64_t>& limit,
           std::vector<std::int64_t> taken) {
  const auto k = static_cast<std::size_t>(c.shape.topk), flat = static_cast<std::size_t>(tokens) * k;
  Result result{std::vector<std::int32_t>(flat, 99), std::move(taken)};
  keep_within_limit(Execution{}, c.indices.data() + static_cast<std::size_t>(first) * k, c.sequence.data() + first,
                    {tokens, c.shape.experts, c.shape.topk}, static_cast<std::int64_t>(limit.size()), limit.data(),
                    result.taken.data(), result.kept.data());
  return result;
}

}  // namespace

TEST_CASE("an expert keeps the first assignments of each sequence") {
  const Choices c = choices({37, 1, 0, 260}, 5, 6, 2);
  const std::size_t counters = 4 * static_cast<std::size_t>(c.shape.experts);
  const std::vector<std::int64_t> none(counters, 0);
  std::vector<std::int64_t> before;
  for (std::size_t i = 0; i < counters; ++i) before.push_back(static_cast<std::int64_t>(i % 5));
  // Nothing, less than an even share, about that, everything; each sequence has its own.
  for (const std::vector<std::int64_t>& limit :
       {std::vector<std::int64_t>{0, 0, 0, 0}, {8, 1, 3, 40}, {13, 1, 1, 90}, {1000, 1000, 1000, 1000}}) {
    CAPTURE(limit);
    CHECK(run(c, 0, c.shape.tokens, limit, none) == one_by_one(c, limit, none));
    CHECK(run(c, 0, c.shape.tokens, limit, before) == one_by_one(c, limit, before));
  }
}

TEST_CASE("pieces of the token axis keep what the whole keeps") {
  const Choices c = choices({37, 60}, 3, 4, 3);
  const std::vector<std::int64_t> limit{20, 9};
  const std::vector<std::int64_t> none(2 * static_cast<std::size_t>(c.shape.experts), 0);
  const Result whole = run(c, 0, c.shape.tokens, limit, none);
  Result pieces{{}, none};
  for (std::int64_t first = 0; first < c.shape.tokens; first += 25) {
    const Result piece = run(c, first, 25, limit, pieces.taken);
    pieces.kept.insert(pieces.kept.end(), piece.kept.begin(), piece.kept.end());
    pieces.taken = piece.taken;
  }
  CHECK(pieces == whole);
}

TEST_CASE("without tokens nothing is kept and counts stay") {
  std::vector<std::int64_t> taken{3, 4};
  const std::int64_t limit = 1;
  keep_within_limit(Execution{}, nullptr, nullptr, {0, 2, 1}, 1, &limit, taken.data(), nullptr);
  CHECK(taken == std::vector<std::int64_t>{3, 4});
  keep_within_limit(Execution{}, nullptr, nullptr, {0, 2, 1}, 0, nullptr, nullptr, nullptr);
}
