// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "commands/table.hpp"

namespace caravan::commands {

/// caravan status PATH [--json | --shell] [--section.key=value …]: how far a run is and who holds it. PATH is a run
/// folder, which config.ini describes, or a configuration file. Needs no MPI and changes nothing.
std::function<int()> status(const Command& command, const std::vector<std::string>& arguments);

}  // namespace caravan::commands
