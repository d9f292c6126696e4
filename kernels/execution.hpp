// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device/device.hpp"

namespace caravan::kernels {

/// Where a kernel runs; all pointers given to it must be readable there. Kernels at one place run in the order of the
/// calls. A build of Kokkos for the host refuses a device's place, one for a device refuses the host's (exit 70).
struct Execution {
  device::Place place;
};

}  // namespace caravan::kernels
