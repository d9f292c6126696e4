// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands/job.hpp"

namespace caravan::commands {

/// caravan info PATH [--tensors] [--verify]: what a file or folder is. Exit code 1 when a check finds a problem.
Job info(const std::vector<std::string>& arguments);

}  // namespace caravan::commands
