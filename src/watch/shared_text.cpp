// SPDX-License-Identifier: Apache-2.0
#include "watch/shared_text.hpp"

#include <algorithm>
#include <cstring>

namespace caravan::watch {

void SharedText::write(const std::string& text, std::int64_t now) {
  const std::size_t bytes = std::min(text.size(), most_bytes);
  const std::uint64_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  for (std::size_t at = 0; at < bytes; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min<std::size_t>(8, bytes - at));
    words_[at / 8].store(word, std::memory_order_relaxed);
  }
  bytes_.store(bytes, std::memory_order_relaxed);
  time_.store(now, std::memory_order_relaxed);
  version_.store(version + 2, std::memory_order_release);
}

std::optional<std::string> SharedText::read(std::int64_t earliest) const {
  const std::uint64_t before = version_.load(std::memory_order_acquire);
  const std::int64_t time = time_.load(std::memory_order_relaxed);
  std::string text(std::min<std::size_t>(bytes_.load(std::memory_order_relaxed), most_bytes), '\0');
  for (std::size_t at = 0; at < text.size(); at += 8) {
    const std::uint64_t word = words_[at / 8].load(std::memory_order_relaxed);
    std::memcpy(text.data() + at, &word, std::min<std::size_t>(8, text.size() - at));
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool whole = before % 2 == 0 && version_.load(std::memory_order_relaxed) == before;
  return whole && time >= earliest ? std::optional(std::move(text)) : std::nullopt;
}

}  // namespace caravan::watch
