// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace caravan::checkpoint {

/// XXH3-64 (https://xxhash.com, seed 0) as 16 lower-case hexadecimal digits, the highest first.
std::string checksum(const void* data, std::size_t bytes);

}  // namespace caravan::checkpoint
