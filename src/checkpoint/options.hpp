// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::checkpoint {

/// Section [checkpoint].
struct Options {
  std::int64_t every = 200;
  double minutes = 60;
  bool asynchronous = true;
  std::int64_t keep = 2;
  std::int64_t keep_every = 0;
  bool keep_best = false;
  double margin = 60;
  std::string resume = "auto";

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("every", every, core::whole(0, 1'000'000'000, "steps"),
          "save after every so many optimizer steps; 0: only at the end and when stopped");
    visit("minutes", minutes, core::real(0, 1e6, "min"),
          "save also when the newest save began so long ago; 0: not for that");
    visit("asynchronous", asynchronous, core::flag(),
          "training goes on while a checkpoint is written, from a copy in memory of what the rank writes (12 bytes for "
          "each trained parameter that it owns); false: it waits, and needs no copy");
    visit("keep", keep, core::whole(1, 1'000'000), "newest checkpoints that stay, besides step 0");
    visit("keep_every", keep_every, core::whole(0, 1'000'000'000, "steps"),
          "checkpoints of steps divisible by this stay, too; 0: none for that");
    visit("keep_best", keep_best, core::flag(),
          "the checkpoint with the lowest held-out loss stays, too; one counts when its step was evaluated, so let "
          "checkpoint.every be a multiple of evaluate.every; others are kept by the settings above only; where "
          "evaluate.samples or data.held_out changed, the best before stays besides the best since");
    visit(
        "margin", margin, core::real(0, 1e6, "s"),
        "the last save before the job's time limit (SLURM_JOB_END_TIME or CARAVAN_END_TIME, unix seconds) is begun so "
        "early that it should be durable this long before it");
    visit("resume", resume, core::path(),
          "auto: from the newest good checkpoint of the run folder; never: refuse a run folder that has one; or a "
          "checkpoint's folder");
  }
};

}  // namespace caravan::checkpoint
