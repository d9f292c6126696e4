// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "train/options.hpp"
#include "train/progress.hpp"
#include "train/schedule.hpp"

// Settings that were changed since a checkpoint, where that changes what its steps mean for those that follow. `former`
// is the section [train] that it was made with; what is not in it, which may be all in older checkpoints, is not
// compared. Everything else may change: it alters steps to come, and whoever changes it wants that.
namespace caravan::train {

/// Throws (exit 2), naming the setting and `where` the checkpoint is, when training would not go on in the data where
/// that checkpoint stopped:
/// - train.epochs decides how long to train, and the steps done did not all use train.batch sequences: they would be
///   counted for steps of that size. Their place in the data shows it, whatever settings earlier starts had.
/// - train.shuffle or, with it, train.seed is another one in the middle of an epoch: its rest, in another order, would
///   repeat some sequences and leave out others.
/// sequences: in the packed file, which is the checkpoint's.
void require_same_course(const Options& options, const nlohmann::json& former, const Progress& progress,
                         std::int64_t sequences, const std::string& where);

/// One line when the learning rate, as a share of train.lr, falls behind `step`, since the warm-up is longer than the
/// checkpoint's: train.warmup_ratio counts steps that were added to the plan, too.
std::optional<std::string> falls_back_into_warm_up(const Schedule& now, const nlohmann::json& former, std::int64_t step,
                                                   std::int64_t sequences);

}  // namespace caravan::train
