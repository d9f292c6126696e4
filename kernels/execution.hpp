// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace caravan::kernels {

/// Where a kernel runs: a stream of the device (cudaStream_t, hipStream_t), or null for the default instance of Kokkos'
/// default execution space. All pointers given to a kernel must be readable from that space. Kernels on one handle
/// run in the order of the calls; on a device they may still run after the call returns.
struct Execution {
  void* stream = nullptr;
};

}  // namespace caravan::kernels
