// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands/start.hpp"
#include "data/packed_file.hpp"
#include "train/progress.hpp"
#include "train/trainer.hpp"

// How train finds where to go on, and what it takes from there.
namespace caravan::commands {

/// The checkpoint to start from: the run's newest good one; else what checkpoint.resume names, or step 0. Throws (exit
/// 2) when there is none, when resume = never and the run has trained before, or when resume names one of this run's
/// own.
std::filesystem::path first_checkpoint(const Session& session);

/// Throws (exit 2) when the configuration describes other trainables than the checkpoint holds. Settings that upcycle
/// did not use, because the base or the adapter had its own, are not compared.
void require_same_model(const Session& session, const Start& start);

/// Loads trainables, moments and progress. Damage found while reading falls back to the run's checkpoint before (and
/// says so); `start` is then that one. Collective. Throws (exit 2) when the data are not those of the checkpoint.
train::Progress resume(const Session& session, Start& start, Model& model, train::Trainer& trainer,
                       const data::PackedFile& packed);

/// Renames the run's checkpoints of later steps than the one it goes on from, which are damaged or of a course that it
/// no longer takes: each name is free when the run saves that step again, and no later start chooses them. By rank 0.
void set_aside_later(const Session& session, std::int64_t step);

/// What a checkpoint says besides tensors, for resume().
nlohmann::json resume_state(const Session& session, const train::Progress& progress,
                            const std::string& data_fingerprint);

}  // namespace caravan::commands
