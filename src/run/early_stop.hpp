// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "comm/communicator.hpp"

// The file stopped-early in a run folder, for batch scripts: it is there when the newest start in that folder was asked
// to stop (core::StopRequest) before anything was finished. Exit code 70 means that or a defect, and of a preemption
// Slurm informs only the ranks: without the file a script would end the job for good. Not exit code 75, which promises
// a checkpoint of this start.
namespace caravan::run {

/// Removes it. Rank 0 does; an empty folder's name means none.
void forget_early_stop(const comm::Communicator& world, const std::filesystem::path& run_folder);

/// Writes it when any rank was asked to stop, if the folder exists; what fails is passed over. Collective.
void note_early_stop(comm::Communicator& world, const std::filesystem::path& run_folder);

}  // namespace caravan::run
