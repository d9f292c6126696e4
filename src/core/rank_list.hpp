// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace caravan::core {

/// "rank 2", "ranks 0, 3 to 5 and 9", of ranks in ascending order; a long list by its beginning and its number.
std::string describe_ranks(const std::vector<int>& ranks);

}  // namespace caravan::core
