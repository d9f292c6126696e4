// SPDX-License-Identifier: Apache-2.0
// What the communicator books for each verb, against what must travel when every piece goes straight to its receiver.
#include <unistd.h>

#include "comm/mpi_runtime.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

using core::DType;
using Counts = Communicator::Counts;

std::vector<float> zeros(std::int64_t count) { return std::vector<float>(static_cast<std::size_t>(count)); }

}  // namespace

TEST_CASE("Every verb books calls, messages and bytes", "[traffic]") {
  const auto world = make_world(60);
  const std::int64_t size = world->size(), rank = world->rank(), others = size - 1;
  if (size == 1) {
    CHECK(world->traffic().empty());
    return;
  }
  const auto check = [&](const char* operation, std::int64_t calls, std::int64_t messages, std::int64_t bytes) {
    CAPTURE(operation);
    const Traffic& traffic = world->traffic().at(operation);
    CHECK(traffic.calls == calls);
    CHECK(traffic.messages == messages);
    CHECK(traffic.bytes == bytes);
    CHECK(traffic.waited > 0);
  };
  std::vector<float> few = zeros(10), many = zeros(20000);
  world->all_reduce("few", few.data(), 10, DType::f32, Reduce::sum).wait();
  check("few", 1, others, others * 10 * 4);

  // Pieces of 20000 / size elements to their owners, then each owner's sum to everyone.
  world->all_reduce("many", many.data(), 20000, DType::f32, Reduce::sum).wait();
  check("many", 2, 2 * others, 4 * ((20000 - 20000 / size) + others * (20000 / size)));

  Counts uneven(static_cast<std::size_t>(size));
  for (std::size_t r = 0; r < uneven.size(); ++r) uneven[r] = static_cast<std::int64_t>(r);  // rank 0 has nothing
  const std::int64_t total = size * (size - 1) / 2;
  const std::vector<float> own = zeros(rank);
  std::vector<float> all = zeros(total);
  world->all_gather("gather", own.data(), all.data(), uneven, DType::f32).wait();
  check("gather", 1, rank > 0 ? others : 0, others * rank * 4);

  // A piece for every other rank, but rank 0's is empty.
  std::vector<float> mine = zeros(rank);
  world->reduce_scatter("scatter", all.data(), mine.data(), uneven, DType::f32).wait();
  check("scatter", 1, rank == 0 ? others : others - 1, (total - rank) * 4);

  // r + 1 elements to rank r, so that this rank gets rank + 1 from each.
  Counts to(uneven.size());
  for (std::size_t r = 0; r < to.size(); ++r) to[r] = static_cast<std::int64_t>(r) + 1;
  const std::vector<float> leaving = zeros(total + size);
  std::vector<float> arriving = zeros(size * (rank + 1));
  world->all_to_all("exchange", leaving.data(), to, arriving.data(), Counts(to.size(), rank + 1), DType::f32).wait();
  world->all_to_all("exchange", leaving.data(), to, arriving.data(), Counts(to.size(), rank + 1), DType::f32).wait();
  check("exchange", 2, 2 * others, 2 * (total + size - (rank + 1)) * 4);

  world->broadcast("broadcast", few.data(), 10, DType::f32, 0).wait();
  check("broadcast", 1, rank == 0 ? others : 0, rank == 0 ? others * 40 : 0);

  world->barrier("barrier");
  check("barrier", 1, 0, 0);
}

TEST_CASE("The bytes of a large sum do not grow with the ranks", "[traffic]") {
  const auto world = make_world(60);
  if (world->size() == 1) return;
  std::vector<double> values(16384);
  world->all_reduce("sum", values.data(), 16384, DType::f64, Reduce::sum).wait();
  CHECK(world->traffic().at("sum").bytes < std::int64_t{2} * 16384 * 8);
}

TEST_CASE("Only the time spent in wait counts as waited", "[traffic]") {
  const auto world = make_world(60);
  if (world->size() == 1) return;
  std::vector<float> part = zeros(1000), all = zeros(std::int64_t{1000} * world->size());
  Pending pending = world->all_gather("gather", part.data(), all.data(),
                                      Counts(static_cast<std::size_t>(world->size()), 1000), DType::f32);
  for (int i = 0; i < 100; ++i) {
    usleep(2000);
    world->advance();
  }
  world->barrier("barrier");  // a rank may have come to the gather late
  // The transfer was done long before: far below the 0.2 s since its start, however slow the machine.
  pending.wait();
  CHECK(world->traffic().at("gather").waited < 0.1);
}

}  // namespace caravan::comm
