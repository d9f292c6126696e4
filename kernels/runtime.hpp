// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::kernels {

/// The scope in which kernels may be called: starts Kokkos and ends it. Does nothing where Kokkos already runs.
/// After a Runtime has ended Kokkos, a second one in the same process is an error (exit 70): Kokkos starts once.
class Runtime {
 public:
  Runtime();
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

 private:
  bool owner_ = false;
};

/// The space in which kernels run and Kokkos' version, for example "Serial, Kokkos 3.4.1". Needs no Runtime.
std::string backend_name();

}  // namespace caravan::kernels
