// SPDX-License-Identifier: Apache-2.0
#include "commands/resume.hpp"

#include <algorithm>

#include "checkpoint/manifest.hpp"
#include "comm/agreement.hpp"
#include "commands/open_packed.hpp"
#include "convert/base_tensors.hpp"
#include "core/build_facts.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "family/config_changes.hpp"
#include "run/step_0_origin.hpp"
#include "train/changed_settings.hpp"

namespace caravan::commands {
namespace {

/// One line per setting that differs from the checkpoint's.
void log_changes(nlohmann::json before, const nlohmann::json& now) {
  for (const config::Renamed& name : config::renamed_settings()) {
    const auto former = before.value(name.former_section, nlohmann::json::object());
    if (former.contains(name.former_key)) before[name.section][name.key] = former.at(name.former_key);
  }
  for (const auto& [section, settings] : now.items()) {
    for (const auto& [key, value] : settings.items()) {
      const auto old = before.value(section, nlohmann::json::object()).value(key, nlohmann::json());
      if (old != value) core::log("changed since the checkpoint: ", section, ".", key, " = ", value, ", was ", old);
    }
  }
}

/// The section [train] that a checkpoint was made with; empty when it does not say.
nlohmann::json former_settings(const Start& start) {
  return start.reader->state().value("config", nlohmann::json::object()).value("train", nlohmann::json::object());
}

/// Throws (exit 2) when model.base is there and is not what step 0 was made from. Of a step 0 that says where it came
/// from that very folder is not looked at again.
void require_same_base(const Session& session, const Start& start, const checkpoint::Manifest& store) {
  const std::string& base = session.config.model.base;
  const nlohmann::json facts = store.state.value("upcycle", nlohmann::json::object());
  const std::string recorded = facts.value("base", "");
  const run::Step0Origin made = run::Step0Origin::of(store);
  if (base.empty() || recorded.empty() || (!made.base.empty() && run::is_same_folder(base, made.base))) return;
  const std::string from = made.base.empty() ? start.store.string() : start.store.string() + " (" + made.base + ")";
  std::string found;
  try {
    found = convert::fingerprint_of_folders(base, made.base.empty() ? session.config.model.adapter : made.adapter,
                                            start.spec);
  } catch (const core::Error& error) {
    // Who trains need not have the base, and an earlier version did not say which adapter it took.
    if (made.base.empty()) return;
    core::log_warning(core::concat("model.base = ", base, " is not the folder that upcycle took for ", from,
                                   ", and cannot be compared with it: ", error.what()));
    return;
  }
  if (found == recorded || (made.base.empty() && facts.contains("kept"))) return;
  core::bad_input("model.base = ", base, " is another model than the one that upcycle took for ", from,
                  "; set it back, or upcycle again into another run.folder");
}

Start open_start_at(const Session& session, const run::ResumePoint& point, const std::filesystem::path& folder) {
  Start start = open_start(session, folder);
  point.require_same_store(start.folder, start.store, start.identity);
  return start;
}

/// Reads trainables, moments and progress; when it throws, they are undefined.
train::Progress load(const Start& start, Model& model, train::Trainer& trainer) {
  const checkpoint::CheckpointReader& reader = *start.reader;
  for (const train::ShardedAdamW::Piece& piece : trainer.optimizer().owned_pieces()) {
    const bool moment = piece.name.rfind("optimizer/", 0) == 0;
    if (!reader.holds(piece.name) && !(moment && reader.step() == 0)) {
      core::bad_input(reader.where(), " holds no ", piece.name, "; resume from another checkpoint");
    }
  }
  const StoppableSource source(reader);
  model.parameters.load_trainable(source);
  trainer.optimizer().load(source);
  if (reader.step() == 0) return {};
  return train::Progress::from_json(reader.state().value("progress", nlohmann::json::object()), reader.where());
}

}  // namespace

run::ResumeWish resume_wish(const Session& session) {
  return {session.config.checkpoint.resume, step_0_folder(session), session.config.file};
}

Start open_resume_point(const Session& session, run::ResumePoint& point) {
  return open_start_at(session, point, point.choose());
}

void require_same_model(const Session& session, const Start& start) {
  const config::Config& config = session.config;
  const family::ModelSpec& spec = start.spec;
  const checkpoint::Manifest store = checkpoint::Manifest::read(start.store);
  const nlohmann::json facts = store.state.value("upcycle", nlohmann::json::object());
  const auto changes = family::config_changes(start.store.string(), facts.value("config", nlohmann::json()));
  if (!changes.empty()) {
    core::bad_input((start.store / "config.json").string(), ": ", core::join(changes, "; "),
                    "; set that back, or upcycle again into another run.folder");
  }
  const auto kept = facts.value("kept", std::vector<std::string>());
  const auto was_kept = [&](const char* section) { return std::find(kept.begin(), kept.end(), section) != kept.end(); };
  const auto same = [&](const char* key, const auto& configured, const auto& there) {
    if (configured == there) return;
    core::bad_input(key, " = ", configured, ", but the checkpoint's model has ", there,
                    "; set it back, or upcycle again into another run.folder");
  };
  // The file has the base that upcycle computed with, whether the setting or the base's own file said so.
  if (facts.contains("config") && config.model.rope_theta > 0) {
    same("model.rope_theta", config.model.rope_theta, family::read_model_spec(start.store.string()).rotary.theta);
  }
  require_same_base(session, start, store);
  if (facts.contains("seed")) same("upcycle.seed", config.upcycle.seed, facts.at("seed").get<std::int64_t>());
  if (spec.pesc && !was_kept("upcycle")) {
    same("upcycle.experts", config.upcycle.experts, spec.pesc->experts);
    same("upcycle.topk", config.upcycle.topk, spec.pesc->topk);
    same("upcycle.adapter_dim", config.upcycle.adapter_dim, spec.pesc->adapter_dim);
    same("upcycle.scaling", config.upcycle.scaling, spec.pesc->scaling);
  }
  if (was_kept("lora")) return;
  same("lora.rank", config.lora.rank, spec.lora ? spec.lora->rank : 0);
  if (spec.lora && config.lora.rank > 0) {
    same("lora.alpha", config.lora.alpha, spec.lora->alpha);
    same("lora.rslora", config.lora.rslora, spec.lora->rank_stabilised);
    same("lora.targets", core::join(family::lora_of(config.lora)->targets), core::join(spec.lora->targets));
  }
}

void require_same_course(const Session& session, const Start& start, const data::PackedFile& packed) {
  if (start.reader->step() == 0) return;
  require_same_data(start.reader->state(), start.folder.string(), packed);
  train::Progress progress;
  try {
    progress = train::Progress::from_json(start.reader->state().value("progress", nlohmann::json::object()), "");
  } catch (const core::Error&) {
    return;  // damage, for which resume() goes back to the checkpoint before
  }
  train::require_same_course(session.config.train, former_settings(start), progress, packed.sequences(),
                             start.folder.string());
}

train::Progress resume(const Session& session, run::ResumePoint& point, Start& start, Model& model,
                       train::Trainer& trainer, const data::PackedFile& packed) {
  while (true) {
    const bool own = start.folder.parent_path() == session.checkpoints();
    train::Progress progress;
    std::optional<core::Error> damage;  // found by this rank
    // What is no damage ends the job, whatever the other ranks found.
    comm::on_all_ranks(session.world, [&] {
      try {
        progress = load(start, model, trainer);
      } catch (const core::Error& error) {
        const auto* refused = dynamic_cast<const core::SystemError*>(&error);
        if (checkpoint::is_damage(error)) {
          damage = error;
        } else if (own && refused != nullptr) {
          throw checkpoint::not_damaged(*refused, start.folder, start.reader->step());
        } else {
          throw;
        }
      }
    });
    try {
      comm::on_all_ranks(session.world, [&] {
        if (damage) throw core::Error(*damage);
      });
      if (progress.step > 0) {
        core::log("resumed ", start.folder.string(), ", written by ", start.reader->layout().world, " ranks (TP ",
                  start.reader->layout().tp, ", EP ", start.reader->layout().ep, ")");
        if (start.reader->program() != core::build_facts_text()) {
          core::log("the checkpoint was written by ", start.reader->program(), "; this is ", core::build_facts_text());
        }
        log_changes(start.reader->state().value("config", nlohmann::json::object()),
                    core::parse_json(config::json(session.config)));
        const auto warning = train::falls_back_into_warm_up(trainer.schedule(), former_settings(start), progress.step,
                                                            packed.sequences());
        if (warning) core::log_warning(*warning);
      }
      return progress;
    } catch (const comm::AgreedError& error) {
      // Only damage is mended by an older checkpoint, and only in this run; nothing else may cost the user steps.
      if (start.reader->step() == 0 || !own) throw;
      start = open_start_at(session, point, point.choose_before(start.reader->step(), error.what(), start.identity));
      comm::on_all_ranks(session.world, [&] { require_same_course(session, start, packed); });
    }
  }
}

nlohmann::json resume_state(const Session& session, const train::Progress& progress, const nlohmann::json& data) {
  nlohmann::json state{{"progress", progress.to_json()}, {"config", core::parse_json(config::json(session.config))}};
  state.update(data);
  return state;
}

}  // namespace caravan::commands
