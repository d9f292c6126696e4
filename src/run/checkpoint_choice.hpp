// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "run/run_folder.hpp"

// Which checkpoint of a run a command takes.
namespace caravan::run {

/// Where upcycle writes and train begins: `store` (model.store), or the run's own step 0 where that is empty.
std::filesystem::path step_0_folder(const RunFolder& run, const std::string& store);

/// The checkpoint that `step` names (evaluate.step): "0" is `step_0`, "newest" the newest good one of the run, else
/// step 0. Nothing when the newest is asked for and there is none. A number's folder is not looked for.
std::optional<std::filesystem::path> chosen_checkpoint(const RunFolder& run, const std::string& step,
                                                       const std::filesystem::path& step_0);

/// What rank 0 decides, on every rank. Collective; `choose` runs on rank 0 alone, and what it throws all throw.
std::filesystem::path choose_together(comm::Communicator& world, const std::function<std::filesystem::path()>& choose);

}  // namespace caravan::run
