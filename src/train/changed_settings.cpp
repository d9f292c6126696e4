// SPDX-License-Identifier: Apache-2.0
#include "train/changed_settings.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"

namespace caravan::train {
namespace {

using nlohmann::json;

/// The checkpoint's value of a setting that differs from the one now; null: the same, or not known.
json other_value(const json& former, const char* key, const json& now) {
  const json was = former.value(key, json());
  return was == now ? json() : was;
}

/// How many steps use up train.epochs, going on from here.
std::int64_t steps_to_the_end(const Options& options, const Progress& progress, std::int64_t sequences) {
  const std::int64_t whole_epochs = options.epochs - progress.position.epoch - 1;
  if (whole_epochs < 0) return progress.step;
  return progress.step + steps_per_epoch(sequences - progress.position.index, options.batch) +
         whole_epochs * steps_per_epoch(sequences, options.batch);
}

void require_steps_of_this_batch(const Options& options, const json& former, const Progress& progress,
                                 std::int64_t sequences, const std::string& where) {
  const std::int64_t per_epoch = steps_per_epoch(sequences, options.batch);
  if (progress.position == data::Position{progress.step / per_epoch, progress.step % per_epoch * options.batch}) return;
  const json was = other_value(former, "batch", options.batch);
  const bool made_with_it = was.is_null() && former.contains("batch");
  core::bad_input("train.batch = ", options.batch, ", but ",
                  was.is_null() ? "not all of" : core::concat("train.batch = ", core::json_text(was), " made"), " the ",
                  progress.step, " steps that led to ", where, was.is_null() ? " were made with it" : "",
                  ", so that counted in steps of ", options.batch, " train.epochs = ", options.epochs,
                  " would not end with the data; ", made_with_it ? "" : "set it back, or ",
                  "plan in train.steps: train.steps = ", steps_to_the_end(options, progress, sequences),
                  " uses up what is left of these epochs");
}

void require_same_order(const Options& options, const json& former, const Progress& progress, std::int64_t sequences,
                        const std::string& where) {
  const auto same = [&](const char* key, const json& now) {
    const json was = other_value(former, key, now);
    if (was.is_null()) return;
    core::bad_input("train.", key, " = ", core::json_text(now), ", but ", where, " was made with ",
                    core::json_text(was), " and has used ", progress.position.index, " of the ", sequences,
                    " sequences of epoch ", progress.position.epoch,
                    ": the rest, in another order, would repeat some and leave out others; set it back, or train in "
                    "another run.folder");
  };
  same("shuffle", options.shuffle);
  if (options.shuffle) same("seed", options.seed);
}

}  // namespace

void require_same_course(const Options& options, const json& former, const Progress& progress, std::int64_t sequences,
                         const std::string& where) {
  if (options.steps == 0) require_steps_of_this_batch(options, former, progress, sequences, where);
  if (progress.position.index > 0) require_same_order(options, former, progress, sequences, where);
}

std::optional<std::string> falls_back_into_warm_up(const Schedule& now, const json& former, std::int64_t step,
                                                   std::int64_t sequences) {
  Options was;
  try {
    was.steps = former.at("steps");
    was.epochs = former.at("epochs");
    was.batch = former.at("batch");
    was.warmup_steps = former.at("warmup_steps");
    was.warmup_ratio = former.at("warmup_ratio");
  } catch (const json::exception&) {  // an older checkpoint
    return std::nullopt;
  }
  const std::int64_t warmup = make_schedule(was, steps_per_epoch(sequences, was.batch)).warmup;
  const double reached = Schedule{1, warmup, 0}.rate(step);
  if (Schedule{1, now.warmup, 0}.rate(step + 1) >= reached) return std::nullopt;
  return core::concat("the learning rate falls behind step ", step, " and climbs again: the warm-up has ", now.warmup,
                      " steps, and had ", warmup, " when the checkpoint was made; train.warmup_steps = ", warmup,
                      " instead of train.warmup_ratio keeps the former");
}

}  // namespace caravan::train
