// SPDX-License-Identifier: Apache-2.0
// What a training step takes, counted instead of timed.
#pragma once

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>

namespace caravan::tests {

/// Bytes of the host's tensors: torch's allocator, counting from the first use to the end of the process.
class TensorMemory final : public c10::Allocator {
 public:
  static TensorMemory& counting() {
    static TensorMemory& memory = *new TensorMemory;  // tensors may outlive every static object
    return memory;
  }

  std::int64_t live() const { return live_; }
  std::int64_t peak() const { return peak_; }
  void forget_peak() { peak_ = live_.load(); }

  c10::DataPtr allocate(std::size_t bytes) override {
    auto* block = new Block{below_.allocate(bytes), static_cast<std::int64_t>(bytes)};
    live_ += block->bytes;
    peak_ = std::max(peak_.load(), live_.load());
    return {block->data.get(), block, &release, block->data.device()};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  struct Block {
    c10::DataPtr data;
    std::int64_t bytes;
  };
  TensorMemory() : below_(*c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    counting().live_ -= block->bytes;
  }

  c10::Allocator& below_;
  std::atomic<std::int64_t> live_{0}, peak_{0};
};

/// How often this thread calls an operation of torch while this lives, by name and overload: "aten::mm",
/// "aten::mm.out".
class CallCount {
 public:
  CallCount() : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(&begin))) { counted.clear(); }
  ~CallCount() { at::removeCallback(handle_); }
  CallCount(const CallCount&) = delete;
  CallCount& operator=(const CallCount&) = delete;

  std::map<std::string, int> calls() const { return counted; }

 private:
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    if (const auto name = function.operator_name()) {
      ++counted[name->overload_name.empty() ? name->name : name->name + "." + name->overload_name];
    }
    return nullptr;
  }
  at::CallbackHandle handle_;
  static inline thread_local std::map<std::string, int> counted;
};

}  // namespace caravan::tests
