// SPDX-License-Identifier: Apache-2.0
// Pieces and totals past 2^31 bytes, over MPI as it is. Two ranks need 10 GB.
#include <cstring>

#include "comm/mpi_runtime.hpp"
#include "core/random.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

using Counts = Communicator::Counts;

// 2^31 bytes and a few: neither a multiple of a message nor of a page.
constexpr std::int64_t long_count = (std::int64_t{1} << 28) + 12345;  // of 8 bytes

std::int64_t value_of(int rank, std::size_t i) {
  return static_cast<std::int64_t>(core::mix64(static_cast<std::uint64_t>(rank) << 40 | i));
}

std::vector<std::int64_t> values_of(int rank, std::int64_t count) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(rank, i);
  return values;
}

/// Where the first of them is not what that rank has; `count` when all are.
std::int64_t first_wrong(const std::int64_t* values, int rank, std::int64_t count) {
  std::int64_t i = 0;
  while (i < count && values[i] == value_of(rank, static_cast<std::size_t>(i))) ++i;
  return i;
}

}  // namespace

TEST_CASE("A broadcast above 2 GiB arrives whole") {
  const auto world = make_world(600);
  std::vector<std::int64_t> values = values_of(world->rank(), long_count);
  world->broadcast("spread", values.data(), long_count, core::DType::i64, 1).wait();
  CHECK(first_wrong(values.data(), 1, long_count) == long_count);
}

TEST_CASE("An all-gather above 2 GiB arrives whole, in place, behind an offset above 2 GiB") {
  const auto world = make_world(600);
  const Counts counts{long_count, 5};
  std::vector<std::int64_t> all(static_cast<std::size_t>(long_count + 5));
  std::int64_t* own = all.data() + (world->rank() == 0 ? 0 : long_count);
  const std::vector<std::int64_t> mine = values_of(world->rank(), counts[static_cast<std::size_t>(world->rank())]);
  std::memcpy(own, mine.data(), mine.size() * 8);
  world->all_gather("gather", own, all.data(), counts, core::DType::i64).wait();
  CHECK(first_wrong(all.data(), 0, long_count) == long_count);
  CHECK(first_wrong(all.data() + long_count, 1, 5) == 5);
}

TEST_CASE("An exchange above 2 GiB in one direction arrives whole") {
  const auto world = make_world(600);
  const bool sends = world->rank() == 0;
  const Counts none{3, 0}, out{3, long_count}, in{long_count, 3};
  std::vector<std::int64_t> send = values_of(world->rank(), sends ? long_count + 3 : 3);
  std::vector<std::int64_t> receive(static_cast<std::size_t>(sends ? 3 : long_count + 3));
  world
      ->all_to_all("exchange", send.data(), sends ? out : Counts{0, 3}, receive.data(), sends ? none : in,
                   core::DType::i64)
      .wait();
  if (sends) {
    CHECK(first_wrong(receive.data(), 0, 3) == 3);
    return;
  }
  std::int64_t i = 0;
  while (i < long_count && receive[static_cast<std::size_t>(i)] == value_of(0, static_cast<std::size_t>(i + 3))) ++i;
  CHECK(i == long_count);
  CHECK(first_wrong(receive.data() + long_count, 1, 3) == 3);
}

}  // namespace caravan::comm
