// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::core {

/// This machine's, as messages name it.
std::string host_name();

}  // namespace caravan::core
