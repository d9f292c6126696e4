// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

// A device for tests of what must not read device memory on the host. It computes with the host's operators and kernels
// on memory that is mapped twice: tensors have the address that can neither be read nor written, and operators and
// kernels are given the other one. So a program that takes an element where it should have launched something dies of
// SIGSEGV, and one that asks torch for a number (item, a copy to the host, nonzero) is counted. Results have the host's
// bits. Fresh memory is full of NaN.
// Its file implements parallel/device_tensors.hpp: a program that links it gets that instead of the host's.
namespace caravan::tests::fake_device {

/// The device; made with the first call. From then on backward runs on the calling thread.
at::Device device();

/// What the host did since reset().
struct Reads {
  std::int64_t waits = 0;   // calls of parallel::to_host
  std::int64_t hidden = 0;  // everything else that makes the host wait for a value of the device
};
Reads reads();
void reset();

/// A copy on the host for comparisons, which counts as nothing.
at::Tensor look(const at::Tensor& tensor);

}  // namespace caravan::tests::fake_device
