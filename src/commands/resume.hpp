// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands/start.hpp"
#include "data/packed_file.hpp"
#include "run/resume_point.hpp"
#include "train/progress.hpp"
#include "train/trainer.hpp"

// What train takes from where it goes on.
namespace caravan::commands {

/// Where this configuration lets a run begin.
run::ResumeWish resume_wish(const Session& session);

/// Opens the checkpoint that the start goes on from. Collective. Throws AgreedError (exit 2) as the parts of
/// ResumePoint do.
Start open_resume_point(const Session& session, run::ResumePoint& point);

/// Throws (exit 2) when the configuration describes another model than the checkpoint holds: other trainables or
/// initial values, another base or rotary base, or a config.json beside the frozen tensors that is no longer the one
/// that upcycle wrote and recorded. Settings that upcycle did not use, because the base or the adapter had its own, are
/// not compared.
void require_same_model(const Session& session, const Start& start);

/// Throws (exit 2) when the data are not those that the checkpoint was trained on, or a setting has changed that its
/// steps depend on (train/changed_settings.hpp): no earlier checkpoint is tried for that.
void require_same_course(const Session& session, const Start& start, const data::PackedFile& packed);

/// Loads trainables, moments and progress. Damage found while reading falls back to the checkpoint before (and says
/// so); `start` is then that one, and refused like the first by require_same_course. Collective. Throws with
/// core::exit_code_of when the system refuses to read: no checkpoint is passed over for that.
train::Progress resume(const Session& session, run::ResumePoint& point, Start& start, Model& model,
                       train::Trainer& trainer, const data::PackedFile& packed);

/// What a checkpoint says besides tensors, for resume() and require_same_course(). data: facts_of the packed file.
nlohmann::json resume_state(const Session& session, const train::Progress& progress, const nlohmann::json& data);

}  // namespace caravan::commands
