// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "comm/communicator.hpp"

namespace caravan::run {

/// Whether all ranks see the folder that rank 0 has locked: each looks there for that lock, for up to 10 s, since
/// network file systems show late what another node has made. setting: that names the folder, "run.folder". Collective.
/// Throws AgreedError (exit 2), naming both folders and hosts, when a rank does not.
void require_shared(comm::Communicator& world, const std::filesystem::path& folder, const std::string& setting);

}  // namespace caravan::run
