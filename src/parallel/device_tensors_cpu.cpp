// SPDX-License-Identifier: Apache-2.0
// The device is the host. A program that links another implementation of this header takes nothing from this file.
#include "core/error.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::parallel {

device::Place place_of(const at::Tensor& tensor) {
  CARAVAN_CHECK(tensor.device().is_cpu(), "this build computes on the host alone, and a tensor is on ",
                tensor.device().str());
  return {};
}

void* kernel_address(const at::Tensor& tensor) { return tensor.data_ptr(); }

at::Tensor to_host(const at::Tensor& tensor) {
  CARAVAN_CHECK(tensor.device().is_cpu(), "this build computes on the CPU only, not on ", tensor.device().str());
  return tensor.contiguous();
}

}  // namespace caravan::parallel
