// SPDX-License-Identifier: Apache-2.0
#include "kernels/runtime.hpp"

#include <Kokkos_Core.hpp>

#include "core/error.hpp"
#include "device/device.hpp"

namespace caravan::kernels {
namespace {
bool ended = false;
}

Runtime::Runtime() {
  if (Kokkos::is_initialized()) return;
  CARAVAN_CHECK(!ended, "the kernel runtime was started again after its end");
  // Kernels of another memory than the tensors' would fault on the first pointer.
  using Reach = Kokkos::SpaceAccessibility<Kokkos::DefaultExecutionSpace, Kokkos::HostSpace>;
  if (Reach::accessible == device::present()) {
    core::bad_input("this build's kernels run on ", Kokkos::DefaultExecutionSpace::name(),
                    ", but the rest of the program computes on ", device::present() ? "a device" : "the host",
                    "; build with a Kokkos for the same");
  }
  Kokkos::initialize();
  owner_ = true;
}

Runtime::~Runtime() {
  if (!owner_) return;
  Kokkos::finalize();
  ended = true;
}

std::string backend_name() {
  return core::concat(Kokkos::DefaultExecutionSpace::name(), ", Kokkos ", KOKKOS_VERSION / 10000, ".",
                      KOKKOS_VERSION / 100 % 100, ".", KOKKOS_VERSION % 100);
}

}  // namespace caravan::kernels
