// SPDX-License-Identifier: Apache-2.0
#include "core/checksum.hpp"

#include <xxhash.h>

namespace caravan::core {

std::uint64_t xxh3(const void* bytes, std::size_t size) { return XXH3_64bits(bytes, size); }

std::string hex(std::uint64_t value) {
  std::string digits(16, '0');
  for (std::size_t i = 16; i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15U];
  return digits;
}

std::string checksum(const void* bytes, std::size_t size) { return hex(xxh3(bytes, size)); }

}  // namespace caravan::core
