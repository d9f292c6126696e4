// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands/table.hpp"

namespace caravan::commands {

/// caravan info PATH [--tensors] [--verify]: what a file or folder is. Exit code 1 when a check finds a problem.
std::function<int()> info(const Command& command, const std::vector<std::string>& arguments);

}  // namespace caravan::commands
