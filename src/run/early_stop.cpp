// SPDX-License-Identifier: Apache-2.0
#include "run/early_stop.hpp"

#include <fstream>

#include "core/stop_request.hpp"
#include "run/run_folder.hpp"

namespace caravan::run {
namespace {

std::filesystem::path file_in(const std::filesystem::path& run_folder) { return RunFolder(run_folder).stopped_early(); }

}  // namespace

void forget_early_stop(const comm::Communicator& world, const std::filesystem::path& run_folder) {
  if (world.rank() > 0 || run_folder.empty()) return;
  std::error_code ignored;
  std::filesystem::remove(file_in(run_folder), ignored);
}

void note_early_stop(comm::Communicator& world, const std::filesystem::path& run_folder) {
  const std::int64_t signal = world.all_reduce(
      "agree on what stopped the start", static_cast<std::int64_t>(core::StopRequest::signal()), comm::Reduce::max);
  if (world.rank() > 0 || run_folder.empty() || signal == 0) return;
  std::ofstream(file_in(run_folder)) << "signal " << signal << "\n";
}

}  // namespace caravan::run
