// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/agreement.hpp"

namespace caravan::commands {

/// What a command line asks for, read and validated before MPI starts, so that a wrong line costs nothing, also on a
/// login node.
struct Job {
  std::string text;                             // not empty: print it, and that was all
  std::function<int()> alone;                   // runs in one process, without MPI; returns the exit code
  std::function<int(comm::Communicator&)> run;  // runs on all ranks
  std::vector<comm::Fact> facts;                // the same on all ranks, or they are stopped
  const char* when_stopped = nullptr;           // USR1 and TERM end it in order; what a message says then (a literal)
  std::filesystem::path run_folder;             // where there is one
  double deadline_seconds = 600;                // see [watchdog]
  bool device = false;                          // computes with kernels
};

}  // namespace caravan::commands
