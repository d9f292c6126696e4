// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checksum.hpp"

#include <xxhash.h>

#include <string_view>

namespace caravan::checkpoint {

std::string checksum(const void* data, std::size_t bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  XXH64_hash_t hash = XXH3_64bits(data, bytes);
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; hash >>= 4) text[i] = digits[hash & 15];
  return text;
}

}  // namespace caravan::checkpoint
