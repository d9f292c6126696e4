// SPDX-License-Identifier: Apache-2.0
#include "comm/start_watchdog.hpp"

#include <algorithm>
#include <cstdlib>

#include "comm/agreement.hpp"
#include "comm/mpi_runtime.hpp"

namespace caravan::comm {
namespace {

namespace fs = std::filesystem;

/// This rank's page, and those of the others on its node.
watch::NodePages share_pages(Communicator& world, const std::vector<int>& nodes) {
  watch::NodePages pages(world.rank(), world.size());
  using Address = watch::NodePages::Address;
  static_assert(sizeof(Address) == 3 * sizeof(std::int64_t));
  const Address mine = pages.address();
  std::vector<Address> all(static_cast<std::size_t>(world.size()));
  world
      .all_gather("addresses of the watchdogs", &mine, all.data(), Communicator::Counts(all.size(), 3),
                  core::DType::i64)
      .wait();
  const int here = nodes[static_cast<std::size_t>(world.rank())];
  for (int rank = 0; rank < world.size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    if (nodes[at] == here) pages.open(rank, all[at]);
  }
  world.barrier("open the watchdogs' pages");
  pages.close();
  return pages;
}

bool all_see_all(Communicator& world, const watch::NodePages& pages) {
  bool all = true;
  for (int rank = 0; rank < world.size(); ++rank) all = all && pages.of(rank) != nullptr;
  return world.all_reduce("count the ranks that need files", std::int64_t{all ? 0 : 1}, Reduce::sum) == 0;
}

/// Empty when it cannot be made.
std::string new_folder_beside(const fs::path& what) {
  std::error_code error;
  fs::path parent = fs::absolute(what, error).parent_path();
  while (parent.has_relative_path() && !fs::is_directory(parent, error)) parent = parent.parent_path();
  std::string name = (parent / ".caravan-watchdog-XXXXXX").string();
  return mkdtemp(name.data()) != nullptr ? name : std::string();
}

std::unique_ptr<watch::Watchdog> start(Communicator& world, const fs::path& folder, double deadline_seconds,
                                       watch::NodePages pages) {
  auto watchdog = std::make_unique<watch::Watchdog>(folder, deadline_seconds, std::move(pages));
  world.barrier("start the watchdogs");  // from here on every rank has said something
  return watchdog;
}

}  // namespace

std::unique_ptr<watch::Watchdog> start_watchdog(Communicator& world, const fs::path& folder, double deadline_seconds) {
  on_all_ranks(world, [&] {
    if (world.rank() > 0) return;
    fs::remove_all(folder);
    fs::create_directory(folder);
  });
  return start(world, folder, deadline_seconds, share_pages(world, node_of_each_rank(world)));
}

std::unique_ptr<watch::Watchdog> start_watchdog_beside(Communicator& world, const fs::path& what,
                                                       double deadline_seconds) {
  return start_watchdog_beside(world, what, deadline_seconds, node_of_each_rank(world));
}

std::unique_ptr<watch::Watchdog> start_watchdog_beside(Communicator& world, const fs::path& what,
                                                       double deadline_seconds, const std::vector<int>& nodes) {
  watch::NodePages pages = share_pages(world, nodes);
  std::string folder;
  if (!all_see_all(world, pages) && !what.empty() && world.rank() == 0) folder = new_folder_beside(what);
  folder = world.broadcast_text("share the watchdogs' folder", folder, 0);
  return start(world, folder, deadline_seconds, std::move(pages));
}

}  // namespace caravan::comm
