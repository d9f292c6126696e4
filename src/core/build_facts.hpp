// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::core {

/// What this binary was built from and with. Every text is "unknown" where the build could not find it out.
struct BuildFacts {
  std::string version;     // of Caravan: "0.1.0"
  std::string commit;      // twelve digits of git's commit, "-dirty" after it when files differed from it
  std::string compiler;    // "GNU 12.2.0"
  std::string build_type;  // "Release", "Debug with sanitizers"
  std::string mpi;         // the library: "Open MPI v4.1.4"
  std::string hdf5;        // "1.10.8"
  std::string kokkos;      // "3.4.1"
  std::string libtorch;    // "2.11.0"
};

const BuildFacts& build_facts();

/// The facts as two lines for `caravan --version`, the log's head and checkpoints; no newline at the end.
std::string build_facts_text();

}  // namespace caravan::core
