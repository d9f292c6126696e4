// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace caravan::data {

/// XXH3-64 (the xxHash library's, seed 0).
std::uint64_t xxh3(const void* bytes, std::size_t size);

/// 16 hexadecimal digits.
std::string hex(std::uint64_t value);

}  // namespace caravan::data
