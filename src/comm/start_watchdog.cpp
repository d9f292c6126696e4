// SPDX-License-Identifier: Apache-2.0
#include "comm/start_watchdog.hpp"

#include "comm/agreement.hpp"
#include "comm/mpi_runtime.hpp"

namespace caravan::comm {

std::unique_ptr<watch::Watchdog> start_watchdog(Communicator& world, const std::filesystem::path& folder,
                                                double deadline_seconds) {
  on_all_ranks(world, [&] {
    if (world.rank() > 0) return;
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
  });
  watch::NodePages pages(world.rank(), world.size());
  using Address = watch::NodePages::Address;
  static_assert(sizeof(Address) == 3 * sizeof(std::int64_t));
  const Address mine = pages.address();
  std::vector<Address> all(static_cast<std::size_t>(world.size()));
  world
      .all_gather("addresses of the watchdogs", &mine, all.data(), Communicator::Counts(all.size(), 3),
                  core::DType::i64)
      .wait();
  const std::vector<int> nodes = node_of_each_rank(world);
  const int here = nodes[static_cast<std::size_t>(world.rank())];
  for (int rank = 0; rank < world.size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    if (nodes[at] == here) pages.open(rank, all[at]);
  }
  world.barrier("open the watchdogs' pages");
  pages.close();
  auto watchdog = std::make_unique<watch::Watchdog>(folder, deadline_seconds, std::move(pages));
  world.barrier("start the watchdogs");  // from here on every rank has said something
  return watchdog;
}

}  // namespace caravan::comm
