// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "device/device.hpp"

// What differs from one kind of device to another about tensors; which file implements it is chosen when the program is
// linked. Everything else in this room and above it works on any device.
namespace caravan::parallel {

/// Where this tensor lies, for collectives and kernels on it. Throws (exit 70) for a device that this build does not
/// compute on.
device::Place place_of(const at::Tensor& tensor);

/// Where kernels find the tensor's first element.
void* kernel_address(const at::Tensor& tensor);

/// The tensor in the host's memory, contiguous. Waits until the device has computed it: every call costs a device the
/// time until more work comes, so training makes a few of them in a step.
at::Tensor to_host(const at::Tensor& tensor);

}  // namespace caravan::parallel
