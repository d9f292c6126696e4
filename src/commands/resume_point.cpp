// SPDX-License-Identifier: Apache-2.0
#include "commands/resume_point.hpp"

#include <limits>

#include "comm/agreement.hpp"
#include "core/log.hpp"
#include "core/text.hpp"

namespace caravan::commands {
namespace {

namespace fs = std::filesystem;

/// Whether checkpoint.resume names a folder.
bool names_a_folder(const std::string& resume) { return resume != "auto" && resume != "never"; }

/// What holds whatever is damaged.
void require_sound_wish(const Session& session) {
  const std::string& resume = session.config.checkpoint.resume;
  if (resume == "never") {
    for (const std::int64_t step : checkpoint::committed_steps(session.checkpoints())) {
      if (step == 0) continue;
      core::bad_input(session.checkpoints().string(), " has a checkpoint of step ", step,
                      " and checkpoint.resume = never; use another run.folder, or checkpoint.resume = auto");
    }
  }
  if (names_a_folder(resume) &&
      fs::weakly_canonical(resume).parent_path() == fs::weakly_canonical(session.checkpoints())) {
    core::bad_input("checkpoint.resume = ", resume, " is a checkpoint of this run; to go back to it, start another ",
                    "run.folder from it");
  }
}

}  // namespace

fs::path ResumePoint::choose() {
  const std::string& resume = session_.config.checkpoint.resume;
  const std::size_t known = damaged_.size();
  const auto newest =
      checkpoint::newest_good(session_.checkpoints(), &damaged_,
                              damaged_.empty() ? std::numeric_limits<std::int64_t>::max() : damaged_.back().step);
  for (std::size_t i = known; i < damaged_.size(); ++i) core::log_warning(damaged_[i].reason);
  if (!damaged_.empty() && damaged_.back().step == 0) damaged_.pop_back();  // stays where upcycle put it
  // A folder is a starting point for a new run. Once the run has checkpoints of its own it goes on from them: a job
  // that is requeued with the same configuration must not begin again.
  begins_again_ = !newest || *newest == checkpoint::step_folder(session_.checkpoints(), 0);
  if (!begins_again_) {
    if (names_a_folder(resume)) {
      core::log("this run has checkpoints of its own; checkpoint.resume = ", resume, " was where it began");
    }
    return *newest;
  }
  if (names_a_folder(resume)) return resume;
  fs::path step_0 = step_0_folder(session_);
  if (!fs::exists(step_0 / "manifest.json")) {
    core::bad_input("there is no model in ", step_0.string(), "; run caravan upcycle ", session_.config.file, " first");
  }
  return step_0;
}

Start ResumePoint::open_chosen() {
  Start start = open_start(session_, choose_together(session_, [&] { return chosen_ = choose(); }));
  comm::on_all_ranks(session_.world, [&] {
    for (const checkpoint::PassedOver& damaged : damaged_) {
      if (!damaged.store || checkpoint::is_same_store(*damaged.store, start.identity)) continue;
      core::bad_input(checkpoint::step_folder(session_.checkpoints(), damaged.step).string(),
                      " is damaged, and going back to ", start.folder.string(),
                      " would change the model: the frozen tensors of the former are not those in ",
                      start.store.string(), "; set checkpoint.resume or model.store to where this run began, or move ",
                      "its damaged checkpoints away to begin with the other model");
    }
  });
  return start;
}

Start ResumePoint::open() {
  comm::on_all_ranks(session_.world, [&] {
    if (session_.first()) require_sound_wish(session_);
  });
  return open_chosen();
}

Start ResumePoint::open_before(const Start& damaged, const std::string& reason) {
  core::log_warning(reason + "; falling back to the checkpoint before it");
  if (session_.first()) damaged_.push_back({damaged.reader->step(), reason, damaged.identity});
  return open_chosen();
}

void ResumePoint::set_aside_damaged() const {
  std::vector<std::string> names;
  for (const checkpoint::PassedOver& damaged : damaged_) {
    const auto name = checkpoint::set_aside(session_.checkpoints(), damaged.step);
    if (!name) continue;
    names.push_back(*name);
    core::log_warning(core::concat("step ", damaged.step, " is set aside as ",
                                   (session_.checkpoints() / *name).string(),
                                   ", which nothing reads, remove it when you like: ", damaged.reason));
  }
  if (damaged_.empty() || !begins_again_) return;
  const bool from_step_0 = chosen_ == step_0_folder(session_);
  core::log_warning(core::concat("this run has no good checkpoint of its own: training begins again from ",
                                 from_step_0 ? "step 0, " : "checkpoint.resume = ", chosen_.string(),
                                 "; all that led to ", core::join(names, " and "), " is computed again"));
}

}  // namespace caravan::commands
