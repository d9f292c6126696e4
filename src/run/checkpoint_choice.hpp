// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

/// The checkpoint of this step (checkpoint.step): `step_0` for 0; without a step the newest good one of the run, else
/// step 0. Nothing when the newest is asked for and there is none. Whether the folder of a step exists is not checked.
std::optional<std::filesystem::path> chosen_checkpoint(const RunFolder& run, std::optional<std::int64_t> step,
                                                       const std::filesystem::path& step_0);

/// What rank 0 decides, on every rank. Collective; `choose` runs on rank 0 alone, and what it throws all throw.
std::filesystem::path choose_together(comm::Communicator& world, const std::function<std::filesystem::path()>& choose);

}  // namespace caravan::run
