// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "comm/communicator.hpp"
#include "watch/watchdog.hpp"

namespace caravan::comm {

/// Starts this rank's watchdog, on its main thread. Files of an earlier start in `folder` are removed, and the folder
/// made. Collective. Throws AgreedError when that fails.
std::unique_ptr<watch::Watchdog> start_watchdog(Communicator& world, const std::filesystem::path& folder,
                                                double deadline_seconds);

}  // namespace caravan::comm
