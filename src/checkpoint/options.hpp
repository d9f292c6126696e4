// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "core/complaints.hpp"
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
  std::string step = "newest";

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("every", every, core::whole(0, 1'000'000'000, "steps"),
          "interval between checkpoints in training; 0: only at the end of the run and when it is stopped");
    visit("minutes", minutes, core::real(0, 1e6, "min"),
          "also save when this much time has passed since the newest save began; 0: save by steps only");
    visit("asynchronous", asynchronous, core::flag(),
          "write checkpoints in the background while training continues; this needs memory for a copy of what the rank "
          "writes (12 bytes for each trained parameter that it owns); false: training waits for each checkpoint, and "
          "no copy is made");
    visit("keep", keep, core::whole(1, 1'000'000), "number of newest checkpoints to keep, in addition to step 0");
    visit("keep_every", keep_every, core::whole(0, 1'000'000'000, "steps"),
          "also keep every checkpoint whose step is a multiple of this; 0: no such checkpoints");
    visit(
        "keep_best", keep_best, core::flag(),
        "also keep the checkpoint with the lowest held-out loss. Only checkpoints of evaluated steps are compared, so "
        "make checkpoint.every a multiple of evaluate.every. Losses on different held-out sets are not comparable: "
        "after a change of evaluate.samples or data.held_out, the best checkpoint before the change is kept, too");
    visit(
        "margin", margin, core::real(0, 1e6, "s"),
        "time between the end of the last save and the job's time limit, which SLURM_JOB_END_TIME or CARAVAN_END_TIME "
        "gives in Unix seconds");
    visit(
        "resume", resume, core::path(),
        "where train begins. auto: at the newest good checkpoint of the run, or at step 0; never: at step 0, and a run "
        "that has later checkpoints is refused; or the folder of a checkpoint, at which a new run begins");
    visit("step", step, core::text(), "checkpoint that evaluate and export read: newest, or a step such as 0 or 120",
          "evaluate.step");
  }

  void check(core::Complaints& complaints) const {
    const bool number = !step.empty() && step.size() <= 18 && step.find_first_not_of("0123456789") == std::string::npos;
    if (step != "newest" && !number) {
      complaints.add("checkpoint.step = ", step, " is neither newest nor a step");
    }
  }

  /// The step that evaluate and export read; none: the newest good checkpoint. For options that passed check().
  std::optional<std::int64_t> chosen_step() const {
    if (step == "newest") return std::nullopt;
    return std::stoll(step);
  }
};

}  // namespace caravan::checkpoint
