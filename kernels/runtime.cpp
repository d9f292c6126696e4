// SPDX-License-Identifier: Apache-2.0
#include "kernels/runtime.hpp"

#include <Kokkos_Core.hpp>

#include "core/error.hpp"

namespace caravan::kernels {
namespace {
bool ended = false;
}

Runtime::Runtime() {
  if (Kokkos::is_initialized()) return;
  CARAVAN_CHECK(!ended, "the kernel runtime was started again after its end");
  // Tensors lie in host memory so far: a kernel of another backend would fault on the first pointer.
  if (!Kokkos::SpaceAccessibility<Kokkos::DefaultExecutionSpace, Kokkos::HostSpace>::accessible) {
    core::bad_input("this build's kernels run on ", Kokkos::DefaultExecutionSpace::name(),
                    ", which the rest of the program does not yet; build with a Kokkos for the CPU");
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
