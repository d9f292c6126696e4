// SPDX-License-Identifier: Apache-2.0
#include "core/streamed_copy.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace caravan::core {

void streamed_copy(void* target, const void* source, std::size_t bytes) {
#ifdef __SSE2__
  constexpr std::size_t line = 64;
  auto* to = static_cast<std::byte*>(target);
  const auto* from = static_cast<const std::byte*>(source);
  // Only whole cache lines are written without being read.
  const std::size_t before = std::min(bytes, (line - reinterpret_cast<std::uintptr_t>(to) % line) % line);
  std::memcpy(to, from, before);
  std::size_t at = before;
  for (; bytes - at >= line; at += line) {
    __m128i quarters[4];
    for (int i = 0; i < 4; ++i) quarters[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at) + i);
    for (int i = 0; i < 4; ++i) _mm_stream_si128(reinterpret_cast<__m128i*>(to + at) + i, quarters[i]);
  }
  _mm_sfence();  // such stores keep no order with later ones by themselves
  std::memcpy(to + at, from + at, bytes - at);
#else
  std::memcpy(target, source, bytes);
#endif
}

}  // namespace caravan::core
