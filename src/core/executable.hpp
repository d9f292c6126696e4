// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::core {

/// core::checksum of the bytes of the running program: builds that say the same of themselves may still differ. Its
/// shared libraries are not in it. "unknown" where the system does not show a process its program (Linux's /proc).
std::string executable_checksum();

}  // namespace caravan::core
