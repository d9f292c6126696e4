// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "comm/communicator.hpp"
#include "watch/watchdog.hpp"

namespace caravan::comm {

/// Starts this rank's watchdog, on its main thread. Files of an earlier start in `folder` are removed, and the folder
/// made. Collective. Throws AgreedError when that fails.
std::unique_ptr<watch::Watchdog> start_watchdog(Communicator& world, const std::filesystem::path& folder,
                                                double deadline_seconds);

/// The same for a command that has no folder of its own yet. Ranks that see each other's memory need no files; else
/// they are in a new folder beside `what`, a path that need not exist, or there are none: when `what` is empty, or that
/// folder cannot be made, the ranks of each node know of each other only. Collective.
std::unique_ptr<watch::Watchdog> start_watchdog_beside(Communicator& world, const std::filesystem::path& what,
                                                       double deadline_seconds);
/// nodes: of each rank.
std::unique_ptr<watch::Watchdog> start_watchdog_beside(Communicator& world, const std::filesystem::path& what,
                                                       double deadline_seconds, const std::vector<int>& nodes);

}  // namespace caravan::comm
