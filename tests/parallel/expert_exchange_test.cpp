// SPDX-License-Identifier: Apache-2.0
// Where rows travel. Every row says where it comes from, for which expert, and which one it is; all is exact.
#include "parallel/expert_exchange.hpp"

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

constexpr std::int64_t experts = 8;

/// Slots of an EP rank for an expert.
using Load = std::int64_t (*)(int rank, std::int64_t expert);

struct Named {
  const char* name;
  Load load;
};
const std::vector<Named> loads{
    {"uneven", [](int rank, std::int64_t expert) { return (std::int64_t{3} * rank + 5 * expert) % 4; }},
    {"rank 0 has nothing", [](int rank, std::int64_t expert) { return rank == 0 ? 0 : expert % 3; }},
    {"all to the last expert",
     [](int rank, std::int64_t expert) { return expert == experts - 1 ? rank + 2 : std::int64_t{0}; }},
    {"nothing at all", [](int, std::int64_t) { return std::int64_t{0}; }},
};

/// Rows [slots, 3] of one rank for experts [first, last): (rank, expert, number).
std::vector<float> rows_of(int rank, std::int64_t first, std::int64_t last, Load load) {
  std::vector<float> rows;
  for (std::int64_t e = first; e < last; ++e) {
    for (std::int64_t i = 0; i < load(rank, e); ++i) {
      rows.insert(rows.end(), {static_cast<float>(rank), static_cast<float>(e), static_cast<float>(i)});
    }
  }
  return rows;
}

at::Tensor tensor_of(std::vector<float> rows) {
  return at::from_blob(rows.data(), {static_cast<std::int64_t>(rows.size()) / 3, 3}, at::kFloat).clone();
}

/// Rows of all ranks for the experts of one.
std::int64_t received_by(int owner, int ep, Load load) {
  std::int64_t rows = 0;
  for (std::int64_t e = experts / ep * owner; e < experts / ep * (owner + 1); ++e) {
    for (int r = 0; r < ep; ++r) rows += load(r, e);
  }
  return rows;
}

template <typename Work>
void at_every_load(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (tp > 1) continue;
    const OnGrid grid(tp, ep);
    at::Tensor counts = at::empty({experts}, at::kLong);
    for (const Named& which : loads) {
      CAPTURE(ep, which.name);
      for (std::int64_t e = 0; e < experts; ++e) {
        counts.data_ptr<std::int64_t>()[e] = which.load(grid.context.grid.ep_rank(), e);
      }
      work(grid.context, counts, which.load);
    }
  }
}

}  // namespace

TEST_CASE("in one round rows arrive by expert, then by rank, and go back to their places") {
  at_every_load([](const parallel::Context& context, const at::Tensor& counts, Load load) {
    const int ep = context.grid.ep(), me = context.grid.ep_rank();
    const std::int64_t local = experts / ep;
    const at::Tensor mine = tensor_of(rows_of(me, 0, experts, load));
    std::vector<float> expected;
    std::vector<std::int64_t> expert_rows;
    for (std::int64_t e = local * me; e < local * (me + 1); ++e) {
      expert_rows.push_back(0);
      for (int r = 0; r < ep; ++r) {
        expert_rows.back() += load(r, e);
        const auto rows = rows_of(r, e, e + 1, load);
        expected.insert(expected.end(), rows.begin(), rows.end());
      }
    }
    const at::Tensor wanted = tensor_of(expected);

    // The most that any rank receives just fits.
    std::int64_t most = 1;
    for (int owner = 0; owner < ep; ++owner) most = std::max(most, received_by(owner, ep, load));
    const auto rounds = parallel::plan_exchange(context, counts, most);
    REQUIRE(rounds.size() == 1);
    const parallel::ExchangeRound& round = rounds[0];
    CHECK(round.expert_rows() == expert_rows);
    CHECK(round.received() == wanted.size(0));
    CHECK(round.part_of(mine).is_same(mine));
    const at::Tensor arrived = round.dispatch("there", mine);
    CHECK(arrived.equal(wanted));
    CHECK(round.collect("back", arrived).equal(mine));
    // One value a row, as routing weights travel.
    const at::Tensor numbers = round.dispatch("numbers there", mine.select(1, 2).contiguous());
    CHECK(numbers.equal(wanted.select(1, 2)));
    CHECK(round.collect("numbers back", numbers).equal(mine.select(1, 2)));
  });
}

TEST_CASE("in several rounds every row arrives once, in order, in budget, and goes back") {
  at_every_load([](const parallel::Context& context, const at::Tensor& counts, Load load) {
    const int ep = context.grid.ep(), me = context.grid.ep_rank();
    const std::int64_t local = experts / ep;
    const at::Tensor mine = tensor_of(rows_of(me, 0, experts, load));
    for (const std::int64_t most : {1, 2, 5}) {
      CAPTURE(most);
      std::int64_t least_rounds = 1;  // that let nobody receive more
      for (int owner = 0; ep > 1 && owner < ep; ++owner) {
        while (least_rounds * most < received_by(owner, ep, load)) ++least_rounds;
      }
      const auto rounds = parallel::plan_exchange(context, counts, most);
      CHECK(static_cast<std::int64_t>(rounds.size()) == least_rounds);

      std::vector<std::vector<float>> seen(static_cast<std::size_t>(ep * experts));  // numbers by (rank, expert)
      at::Tensor back;
      for (const parallel::ExchangeRound& round : rounds) {
        const at::Tensor leaving = round.part_of(mine), arrived = round.dispatch("there", leaving);
        REQUIRE(arrived.size(0) == round.received());
        // Each (rank, expert) pair sends its share of the round, rounded up at most.
        if (ep > 1) CHECK(round.received() <= most + experts);
        std::int64_t at = 0;
        for (std::int64_t e = 0; e < local; ++e) {
          const std::int64_t end = at + round.expert_rows()[static_cast<std::size_t>(e)];
          float rank_before = -1;
          for (; at < end; ++at) {
            const float* row = arrived.const_data_ptr<float>() + 3 * at;
            REQUIRE(row[1] == static_cast<float>(local * me + e));
            CHECK(row[0] >= rank_before);
            rank_before = row[0];
            seen[static_cast<std::size_t>(row[0]) * experts + static_cast<std::size_t>(row[1])].push_back(row[2]);
          }
        }
        CHECK(at == round.received());
        round.put(back, round.collect("back", arrived));
      }
      for (int r = 0; r < ep; ++r) {
        for (std::int64_t e = local * me; e < local * (me + 1); ++e) {
          std::vector<float> in_order;
          for (std::int64_t i = 0; i < load(r, e); ++i) in_order.push_back(static_cast<float>(i));
          CHECK(seen[static_cast<std::size_t>(r * experts + e)] == in_order);
        }
      }
      CHECK(back.equal(mine));
    }
  });
}

}  // namespace caravan::tests
