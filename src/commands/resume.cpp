// SPDX-License-Identifier: Apache-2.0
#include "commands/resume.hpp"

#include <algorithm>

#include "checkpoint/manifest.hpp"
#include "checkpoint/retention.hpp"
#include "comm/agreement.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"

namespace caravan::commands {
namespace {

/// One line per setting that differs from the checkpoint's.
void log_changes(const nlohmann::json& before, const nlohmann::json& now) {
  for (const auto& [section, settings] : now.items()) {
    for (const auto& [key, value] : settings.items()) {
      const auto old = before.value(section, nlohmann::json::object()).value(key, nlohmann::json());
      if (old != value) core::log("changed since the checkpoint: ", section, ".", key, " = ", value, ", was ", old);
    }
  }
}

/// What no earlier checkpoint could mend: refused before anything is read.
void require_same_data(const Start& start, const data::PackedFile& packed) {
  if (start.reader->step() == 0) return;
  const std::string fingerprint = start.reader->state().value("data", "");
  if (fingerprint == packed.fingerprint()) return;
  core::bad_input("data.packed = ", packed.path(), " is not the file that ", start.folder.string(),
                  " was trained on (checksums ", packed.fingerprint(), " and ", fingerprint,
                  "); bring the former back, or train on the new one in another run.folder");
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

/// The newest checkpoint of this run itself, beyond step 0.
std::optional<std::filesystem::path> own_newest(const Session& session) {
  auto newest = checkpoint::newest_good(session.checkpoints());
  if (!newest || *newest == checkpoint::step_folder(session.checkpoints(), 0)) return std::nullopt;
  return newest;
}

}  // namespace

std::filesystem::path first_checkpoint(const Session& session) {
  const std::string& resume = session.config.checkpoint.resume;
  std::filesystem::path step_0 = step_0_folder(session);
  if (resume == "never") {
    for (const std::int64_t step : checkpoint::committed_steps(session.checkpoints())) {
      if (step == 0) continue;
      core::bad_input(session.checkpoints().string(), " has a checkpoint of step ", step,
                      " and checkpoint.resume = never; use another run.folder, or checkpoint.resume = auto");
    }
    return step_0;
  }
  const auto newest = own_newest(session);
  if (resume != "auto") {
    // A starting point for a new run. Once the run has checkpoints of its own it goes on from them: a job that is
    // requeued with the same configuration must not begin again.
    if (std::filesystem::weakly_canonical(resume).parent_path() ==
        std::filesystem::weakly_canonical(session.checkpoints())) {
      core::bad_input("checkpoint.resume = ", resume, " is a checkpoint of this run; to go back to it, start another ",
                      "run.folder from it");
    }
    if (!newest) return resume;
    core::log("this run has checkpoints of its own; checkpoint.resume = ", resume, " was where it began");
  }
  if (newest) return *newest;
  if (!std::filesystem::exists(step_0 / "manifest.json")) {
    core::bad_input("there is no model in ", step_0.string(), "; run caravan upcycle ", session.config.file, " first");
  }
  return step_0;
}

void require_same_model(const Session& session, const Start& start) {
  const config::Config& config = session.config;
  const family::ModelSpec& spec = start.spec;
  const nlohmann::json facts = checkpoint::Manifest::read(start.store).state.value("upcycle", nlohmann::json::object());
  const auto kept = facts.value("kept", std::vector<std::string>());
  const auto was_kept = [&](const char* section) { return std::find(kept.begin(), kept.end(), section) != kept.end(); };
  const auto same = [&](const char* key, const auto& configured, const auto& there) {
    if (configured == there) return;
    core::bad_input(key, " = ", configured, ", but the checkpoint's model has ", there,
                    "; set it back, or upcycle again into another run.folder");
  };
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

train::Progress resume(const Session& session, Start& start, Model& model, train::Trainer& trainer,
                       const data::PackedFile& packed) {
  while (true) {
    comm::on_all_ranks(session.world, [&] { require_same_data(start, packed); });
    try {
      train::Progress progress;
      comm::on_all_ranks(session.world, [&] { progress = load(start, model, trainer); });
      if (progress.step > 0) {
        core::log("resumed ", start.folder.string(), ", written by ", start.reader->layout().world, " ranks (TP ",
                  start.reader->layout().tp, ", EP ", start.reader->layout().ep, ")");
        if (start.reader->program() != core::build_facts_text()) {
          core::log("the checkpoint was written by ", start.reader->program(), "; this is ", core::build_facts_text());
        }
        log_changes(start.reader->state().value("config", nlohmann::json::object()),
                    nlohmann::json::parse(config::json(session.config)));
      }
      return progress;
    } catch (const comm::AgreedError& error) {
      // Only damage is mended by an older checkpoint, and only in this run; nothing else may cost the user steps.
      if (error.code() != core::ExitCode::bad_input || start.reader->step() == 0 ||
          start.folder.parent_path() != session.checkpoints())
        throw;
      core::log_warning(std::string(error.what()) + "; falling back to the checkpoint before it");
      const std::int64_t damaged = start.reader->step();
      start = open_start(session, choose_together(session, [&] {
                           const auto before = checkpoint::newest_good(session.checkpoints(), nullptr, damaged);
                           return before ? *before : step_0_folder(session);
                         }));
    }
  }
}

void set_aside_later(const Session& session, std::int64_t step) {
  for (const std::int64_t later : checkpoint::committed_steps(session.checkpoints())) {
    if (later <= step) continue;
    const std::filesystem::path folder = checkpoint::step_folder(session.checkpoints(), later);
    std::filesystem::path aside = folder.string() + ".set-aside";
    for (int n = 2; std::filesystem::exists(aside); ++n) aside = core::concat(folder.string(), ".set-aside-", n);
    std::filesystem::rename(folder, aside);
    core::log_warning(core::concat(folder.string(), " is newer than where this start goes on; it is now ",
                                   aside.filename().string(), ", which nothing reads: remove it when you like"));
  }
  if (std::filesystem::is_directory(session.checkpoints())) io::fsync_folder(session.checkpoints());
}

nlohmann::json resume_state(const Session& session, const train::Progress& progress,
                            const std::string& data_fingerprint) {
  return {{"progress", progress.to_json()},
          {"data", data_fingerprint},
          {"config", nlohmann::json::parse(config::json(session.config))}};
}

}  // namespace caravan::commands
