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

}  // namespace

TEST_CASE("rows arrive ordered by expert, then by rank, and go back where they came from") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    if (tp > 1) continue;
    const OnGrid grid(tp, ep);
    const int me = grid.context.grid.ep_rank();
    const std::int64_t local = experts / ep;
    for (const Named& which : loads) {
      CAPTURE(ep, which.name);
      at::Tensor counts = at::empty({experts}, at::kLong);
      for (std::int64_t e = 0; e < experts; ++e) counts.data_ptr<std::int64_t>()[e] = which.load(me, e);
      const at::Tensor mine = tensor_of(rows_of(me, 0, experts, which.load));

      std::vector<float> expected;
      std::vector<std::int64_t> expert_rows;
      for (std::int64_t e = local * me; e < local * (me + 1); ++e) {
        expert_rows.push_back(0);
        for (int r = 0; r < ep; ++r) {
          expert_rows.back() += which.load(r, e);
          const auto rows = rows_of(r, e, e + 1, which.load);
          expected.insert(expected.end(), rows.begin(), rows.end());
        }
      }
      const at::Tensor wanted = tensor_of(expected);

      const parallel::ExpertExchange exchange(grid.context, counts);
      CHECK(exchange.expert_rows() == expert_rows);
      CHECK(exchange.received() == wanted.size(0));
      const at::Tensor arrived = exchange.dispatch("there", mine);
      CHECK(arrived.equal(wanted));
      CHECK(exchange.collect("back", arrived).equal(mine));
      // One value a row, as routing weights travel.
      const at::Tensor numbers = exchange.dispatch("numbers there", mine.select(1, 2).contiguous());
      CHECK(numbers.equal(wanted.select(1, 2)));
      CHECK(exchange.collect("numbers back", numbers).equal(mine.select(1, 2)));
    }
  }
}

}  // namespace caravan::tests
