// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_device.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/AutogradState.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::tests::fake_device {
namespace {

constexpr c10::DeviceType fake_type = c10::DeviceType::PrivateUse1;
constexpr std::size_t room = std::size_t{1} << 32;  // of addresses; pages come when they are used

Reads counted;

/// Pages that are mapped twice.
class Memory {
 public:
  Memory() {
    const int file = memfd_create("fake device", 0);
    CARAVAN_CHECK(file >= 0 && ftruncate(file, room) == 0);
    hidden_ = static_cast<std::byte*>(mmap(nullptr, room, PROT_NONE, MAP_SHARED, file, 0));
    open_ = static_cast<std::byte*>(mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
    CARAVAN_CHECK(hidden_ != MAP_FAILED && open_ != MAP_FAILED);
  }

  void* allocate(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const std::size_t size = (bytes + 255) / 256 * 256;
    std::vector<std::byte*>& free = free_[size];
    std::byte* hidden = hidden_ + used_;
    if (free.empty()) {
      used_ += size;
      CARAVAN_CHECK(used_ <= room, "the fake device is full");
    } else {
      hidden = free.back();
      free.pop_back();
    }
    sizes_[hidden] = size;
    std::memset(open(hidden), 0xff, size);
    return hidden;
  }
  void release(void* hidden) {
    const std::scoped_lock lock(mutex_);
    auto* begin = static_cast<std::byte*>(hidden);
    if (begin) free_[sizes_.at(begin)].push_back(begin);
  }
  void* open(const void* hidden) const { return open_ + (static_cast<const std::byte*>(hidden) - hidden_); }

 private:
  std::mutex mutex_;
  std::byte *hidden_ = nullptr, *open_ = nullptr;
  std::size_t used_ = 0;
  std::map<std::byte*, std::size_t> sizes_;
  std::map<std::size_t, std::vector<std::byte*>> free_;
};

Memory& memory() {
  static auto* const memory = new Memory;  // tensors of static objects may come after it
  return *memory;
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes > 0 ? memory().allocate(bytes) : nullptr;
    return {data, data, raw_deleter(), c10::Device(fake_type, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* data) { memory().release(data); };
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(memory().open(to), memory().open(from), bytes);
  }
};

Allocator& allocator() {
  static auto* const allocator = new Allocator;
  return *allocator;
}

/// The same elements as a tensor of the host.
at::Tensor opened(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.device().type() != fake_type) return tensor;
  void* data = tensor.numel() > 0 ? memory().open(tensor.data_ptr()) : nullptr;
  return at::from_blob(data, tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype.value_or(at::kFloat));
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (to.is_cpu()) ++counted.hidden;
  opened(to).copy_(opened(from));
  return to;
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  ++counted.hidden;
  return opened(tensor).item();
}

/// A result of the host's operator, on the device.
at::Tensor moved(const at::Tensor& result) {
  if (!result.defined() || !result.is_cpu()) return result;
  at::Tensor there = empty_strided(result.sizes(), result.strides(), result.scalar_type(), {}, {}, {});
  opened(there).copy_(result);
  return there;
}

c10::IValue with_tensors(const c10::IValue& value, at::Tensor (*change)(const at::Tensor&)) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(change(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor ? std::optional(change(*tensor)) : std::nullopt);
    }
    return list;
  }
  return value;
}

/// The argument that a result is, for operators that work in place or into `out`; null for the others.
const c10::IValue* written_argument(const c10::FunctionSchema& schema, const c10::Argument& result,
                                    const std::vector<c10::IValue>& arguments) {
  if (!result.alias_info()) return nullptr;
  CARAVAN_CHECK(result.alias_info()->isWrite(), "the fake device has no view ", schema.name());
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* argument = schema.arguments()[i].alias_info();
    if (argument && argument->beforeSets() == result.alias_info()->beforeSets()) return &arguments[i];
  }
  core::internal_error("the fake device has no operator ", schema.name());
}

/// Runs the host's operator on the open addresses.
void run_on_host(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = operation.schema();
  static const std::vector<std::string> waiting{"aten::nonzero", "aten::masked_select", "aten::bincount", "aten::equal",
                                                "aten::_unique2"};
  for (const std::string& name : waiting) counted.hidden += schema.name() == name;
  const auto first = stack->end() - static_cast<std::ptrdiff_t>(schema.arguments().size());
  const std::vector<c10::IValue> arguments(first, stack->end());
  for (auto argument = first; argument != stack->end(); ++argument) {
    *argument = argument->isDevice() ? c10::IValue(c10::Device(at::kCPU)) : with_tensors(*argument, opened);
  }
  operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  const std::size_t results = schema.returns().size();
  for (std::size_t i = 0; i < results; ++i) {
    c10::IValue& result = (*stack)[stack->size() - results + i];
    const c10::IValue* argument = written_argument(schema, schema.returns()[i], arguments);
    result = argument ? *argument : with_tensors(result, moved);
  }
}

/// There is one stream, on which everything is done when its call returns.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<fake_type> {
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Device exchangeDevice(c10::Device) const override { return {fake_type, 0}; }
  c10::Device getDevice() const override { return {fake_type, 0}; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, c10::Device(fake_type, 0)); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
};

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("_copy_from", copy_from);
  library.impl("_local_scalar_dense", local_scalar);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

at::Device device() {
  static const bool started = [] {
    c10::register_privateuse1_backend("fake");
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    return true;
  }();
  CARAVAN_CHECK(started);
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  return {fake_type, 0};
}

Reads reads() { return counted; }
void reset() { counted = {}; }
at::Tensor look(const at::Tensor& tensor) { return opened(tensor).clone(); }

}  // namespace caravan::tests::fake_device

namespace caravan::parallel {

// Its work is queued nowhere, so it runs where the host's does.
device::Place place_of(const at::Tensor&) { return {}; }

void* kernel_address(const at::Tensor& tensor) { return tests::fake_device::opened(tensor).data_ptr(); }

at::Tensor to_host(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) ++tests::fake_device::counted.waits;
  return tests::fake_device::look(tensor).contiguous();
}

}  // namespace caravan::parallel
