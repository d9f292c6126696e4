// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace caravan::core {

/// XXH3-64 (https://xxhash.com, seed 0).
std::uint64_t xxh3(const void* bytes, std::size_t size);

/// 16 lower-case hexadecimal digits, the highest first.
std::string hex(std::uint64_t value);

/// hex(xxh3(…)).
std::string checksum(const void* bytes, std::size_t size);

}  // namespace caravan::core
