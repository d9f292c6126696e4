// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace caravan::convert {

/// A log line every ten seconds while a rank writes tensors; rank 0's are printed. Also where that work ends when the
/// process is asked to stop: add() throws then (exit 70).
class ByteProgress {
 public:
  ByteProgress(std::string command, std::uint64_t total) : command_(std::move(command)), total_(total) {}

  void add(std::uint64_t bytes);

  std::uint64_t done() const { return done_; }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::string command_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double next_ = 10;
};

}  // namespace caravan::convert
