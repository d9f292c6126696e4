// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

namespace caravan::watch {

/// A text in memory that several processes map: one writes, others read.
class SharedText {
 public:
  static constexpr std::size_t most_bytes = 8192;

  /// Cuts off what is longer. now: nanoseconds of the steady clock.
  void write(const std::string& text, std::int64_t now);
  /// The last one if it was written at `earliest` or later; nothing while it is being written.
  std::optional<std::string> read(std::int64_t earliest) const;

 private:
  std::atomic<std::uint64_t> version_{0};  // odd while it is being written
  std::atomic<std::int64_t> time_{INT64_MIN};
  std::atomic<std::uint64_t> bytes_{0};
  std::array<std::atomic<std::uint64_t>, most_bytes / 8> words_{};
};

}  // namespace caravan::watch
