// SPDX-License-Identifier: Apache-2.0
#include "run/resume_point.hpp"

#include <limits>

#include "comm/agreement.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "run/checkpoint_choice.hpp"

namespace caravan::run {

namespace fs = std::filesystem;

bool names_a_folder(const std::string& resume) { return resume != "auto" && resume != "never"; }

// What holds whatever is damaged.
void ResumePoint::require_sound_wish() const {
  if (wish_.resume == "never") {
    for (const std::int64_t step : checkpoint::committed_steps(checkpoints_)) {
      if (step == 0) continue;
      core::bad_input(checkpoints_.string(), " has a checkpoint of step ", step,
                      " and checkpoint.resume = never; use another run.folder, or checkpoint.resume = auto");
    }
  }
  if (names_a_folder(wish_.resume) &&
      fs::weakly_canonical(wish_.resume).parent_path() == fs::weakly_canonical(checkpoints_)) {
    core::bad_input("checkpoint.resume = ", wish_.resume, " is a checkpoint of this run; to go back to it, start ",
                    "another run.folder from it");
  }
}

fs::path ResumePoint::newest_or_first() {
  const std::size_t known = damaged_.size();
  const auto newest = checkpoint::newest_good(
      checkpoints_, &damaged_, damaged_.empty() ? std::numeric_limits<std::int64_t>::max() : damaged_.back().step);
  for (std::size_t i = known; i < damaged_.size(); ++i) core::log_warning(damaged_[i].reason);
  if (!damaged_.empty() && damaged_.back().step == 0) damaged_.pop_back();  // stays where upcycle put it
  // A folder is a starting point for a new run. Once the run has checkpoints of its own it goes on from them: a job
  // that is requeued with the same configuration must not begin again.
  begins_again_ = !newest || *newest == checkpoint::step_folder(checkpoints_, 0);
  if (!begins_again_) {
    if (names_a_folder(wish_.resume)) {
      core::log("this run has checkpoints of its own; checkpoint.resume = ", wish_.resume, " was where it began");
    }
    return *newest;
  }
  if (names_a_folder(wish_.resume)) return wish_.resume;
  if (!fs::exists(wish_.step_0 / "manifest.json")) {
    core::bad_input("there is no model in ", wish_.step_0.string(), "; run caravan upcycle ", wish_.configuration,
                    " first");
  }
  return wish_.step_0;
}

fs::path ResumePoint::choose() {
  comm::on_all_ranks(world_, [&] {
    if (world_.rank() == 0) require_sound_wish();
  });
  return choose_together(world_, [&] { return chosen_ = newest_or_first(); });
}

fs::path ResumePoint::choose_before(std::int64_t step, const std::string& reason,
                                    const checkpoint::StoreReference& store) {
  core::log_warning(reason + "; falling back to the checkpoint before it");
  if (world_.rank() == 0) damaged_.push_back({step, reason, store});
  return choose_together(world_, [&] { return chosen_ = newest_or_first(); });
}

void ResumePoint::require_same_store(const fs::path& chosen, const fs::path& store,
                                     const checkpoint::StoreReference& identity) const {
  comm::on_all_ranks(world_, [&] {
    for (const checkpoint::PassedOver& damaged : damaged_) {
      if (!damaged.store || checkpoint::is_same_store(*damaged.store, identity)) continue;
      core::bad_input(checkpoint::step_folder(checkpoints_, damaged.step).string(), " is damaged, and going back to ",
                      chosen.string(), " would change the model: the frozen tensors of the former are not those in ",
                      store.string(), "; set checkpoint.resume or model.store to where this run began, or move ",
                      "its damaged checkpoints away to begin with the other model");
    }
  });
}

void ResumePoint::set_aside_damaged() const {
  std::vector<std::string> names;
  for (const checkpoint::PassedOver& damaged : damaged_) {
    const auto name = checkpoint::set_aside(checkpoints_, damaged.step);
    if (!name) continue;
    names.push_back(*name);
    core::log_warning(core::concat("step ", damaged.step, " is set aside as ", (checkpoints_ / *name).string(),
                                   ", which nothing reads, remove it when you like: ", damaged.reason));
  }
  if (damaged_.empty() || !begins_again_) return;
  const bool from_step_0 = chosen_ == wish_.step_0;
  core::log_warning(core::concat("this run has no good checkpoint of its own: training begins again from ",
                                 from_step_0 ? "step 0, " : "checkpoint.resume = ", chosen_.string(),
                                 "; all that led to ", core::join(names, " and "), " is computed again"));
}

}  // namespace caravan::run
