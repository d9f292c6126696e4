// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <set>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/open_packed.hpp"
#include "commands/resume.hpp"
#include "commands/run_saver.hpp"
#include "commands/run_tokenizer.hpp"
#include "commands/start.hpp"
#include "core/build_facts.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "evaluate/held_out.hpp"
#include "io/atomic_file.hpp"
#include "layout/placement.hpp"
#include "run/end_of_job.hpp"
#include "run/open_run.hpp"
#include "train/loop.hpp"

namespace caravan::commands {
namespace {

struct OpenData {
  std::optional<data::PackedFile> packed, held_out;
  std::optional<data::Batches> batches;

  OpenData(const Session& session, const Start& start, int dp_size) {
    const config::Config& config = session.config;
    std::vector<std::string> paths{config.data.packed};
    if (config.evaluate.every > 0) paths.push_back(data::held_out_path(config.data));
    std::vector<data::PackedFile> files = open_packed(session, paths);
    packed.emplace(std::move(files.front()));
    if (files.size() > 1) held_out.emplace(std::move(files.back()));
    comm::on_all_ranks(session.world, [&] {
      const std::unique_ptr<data::Tokenizer> tokenizer = open_run_tokenizer(session, start);
      require_same_tokens(*packed, *tokenizer, start);
      if (packed->metadata().sequence > config.train.sequence) {
        core::bad_input(packed->path(), " was prepared for sequences of ", packed->metadata().sequence,
                        " tokens, longer than train.sequence = ", config.train.sequence, "; run caravan prepare again");
      }
      if (held_out) require_same_tokens(*held_out, *tokenizer, start);
      batches.emplace(*packed, data::BatchOptions{.seed = static_cast<std::uint64_t>(config.train.seed),
                                                  .shuffle = config.train.shuffle,
                                                  .batch = config.train.batch,
                                                  .micro_batch = config.train.micro_batch,
                                                  .dp_size = dp_size});
    });
    warn_of_other_settings(session, *packed);
  }

  RunFiles files(std::int64_t samples) const {
    if (!held_out) return {facts_of(*packed), nullptr};
    return {facts_of(*packed),
            {{"data", held_out->content()}, {"samples", evaluate::scored_sequences(*held_out, samples)}}};
  }
};

void announce(const Session& session, const Model& model, const data::PackedFile& packed, const data::Batches& batches,
              const train::Schedule& schedule, const std::vector<int>& node_of_rank) {
  const train::Options& options = session.config.train;
  core::log(core::build_facts_text());
  const layout::Placement placement = layout::placement_of(model.grid, node_of_rank);
  core::log(model.grid.describe(), ", on ", layout::describe(placement));
  if (placement.tp_span > 1) {
    core::log_warning(
        "TP groups span nodes, whose network each layer waits for; start a multiple of layout.tp ranks on every node");
  }
  core::log(packed.sequences(), " sequences, batch ", options.batch, " in ", batches.accumulation(), " micro-step",
            batches.accumulation() == 1 ? "" : "s", ", ", schedule.steps, " steps, warm-up ", schedule.warmup,
            ", computing in ", core::spelling(options.precision));
  const std::int64_t known_positions = family::known_positions(model.decoder->spec());
  if (packed.metadata().sequence > known_positions) {
    core::log_warning(core::concat(packed.path(), " was prepared for sequences of ", packed.metadata().sequence,
                                   " tokens, longer than the ", known_positions,
                                   " positions that the model was made for (max_position_embeddings, times the factor "
                                   "of the rotary scaling)"));
  }
  if (!packed.has_targets()) {
    core::log_warning(packed.path() + " has no response token, so that there is nothing to learn from it");
  }
  if (options.balance_loss > 0 && options.balance_scope == model::BalanceScope::batch && batches.accumulation() > 1) {
    core::log("the balance loss is measured over micro-steps of ", options.batch / batches.accumulation(),
              " sequences; train.balance_scope = sequence does not depend on the layout");
  }
}

// The parts of a start, each of which takes the ones that must come before it: what chooses a checkpoint takes the hold
// on the folder (run::ResumePoint), the log and the model take what is checked, and what changes the run's files takes
// the saver, behind which nothing refuses the start any more.

Start open_same_model(const Session& session, run::ResumePoint& point) {
  Start start = open_resume_point(session, point);
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) require_same_model(session, start);  // every rank has the same configuration and checkpoint
  });
  return start;
}

/// A start whose settings, files and layout are checked. It has written nothing. What can still refuse it is a
/// checkpoint that proves to be damaged, where the one before it does not go with the settings, or too little memory.
struct CheckedStart {
  Start start;
  OpenData data;
  std::optional<train::Metrics> metrics;  // rank 0's

  CheckedStart(const Session& session, run::ResumePoint& point)
      : start(open_same_model(session, point)), data(session, start, dp_size(session)) {
    comm::on_all_ranks(session.world, [&] { require_same_course(session, start, *data.packed); });
    comm::on_all_ranks(session.world, [&] {
      if (session.first()) metrics.emplace(session.run().metrics(), start.reader->step());
    });
  }

 private:
  int dp_size(const Session& session) const {
    const family::BatchSplit split{session.config.train.batch, session.config.train.micro_batch};
    return checked_grid(session, start.spec, split).dp();
  }
};

/// The model on this rank's grid with its optimizer, as the checkpoint left them. The log has begun.
struct LoadedRun {
  std::vector<int> node_of_rank;
  std::unique_ptr<watch::Watchdog> watchdog;
  Model model;
  train::Trainer trainer;
  train::Progress progress;
  checkpoint::StoreReference store;  // the frozen tensors that this run began with, wherever its checkpoint came from

  LoadedRun(const Session& session, run::OpenRun& held, run::ResumePoint& point, CheckedStart& checked)
      : node_of_rank(comm::node_of_each_rank(session.world)),
        watchdog(begin_log(session, held, node_of_rank)),
        model(session, checked.start),
        trainer(model.context, *model.decoder, model.parameters, session.config.train, session.config.lora.dropout,
                train::make_schedule(session.config.train, train::steps_per_epoch(checked.data.packed->sequences(),
                                                                                  session.config.train.batch))) {
    announce(session, model, *checked.data.packed, *checked.data.batches, trainer.schedule(), node_of_rank);
    progress = resume(session, point, checked.start, model, trainer, *checked.data.packed);
    if (const auto warning = train::without_effect(trainer.schedule(), progress.step)) core::log_warning(*warning);
    comm::on_all_ranks(session.world, [&] {
      store = checkpoint::store_reference(checked.start.store, checkpoint::step_folder(session.checkpoints(), 0));
    });
    checked.start.reader.reset();  // all is read; open files would keep what is deleted later on the disk
  }

 private:
  static std::unique_ptr<watch::Watchdog> begin_log(const Session& session, run::OpenRun& held,
                                                    const std::vector<int>& nodes) {
    held.begin_log(static_cast<int>(std::set<int>(nodes.begin(), nodes.end()).size()));
    return comm::start_watchdog(session.world, session.run().watchdog(), session.config.watchdog.seconds);
  }
};

/// Brings the run's files to the step that the start goes on from. Not before the saver is there: a start that is
/// refused leaves the metrics, checkpoints and configuration of the run alone.
void change_run_folder(const Session& session, const run::ResumePoint& point, CheckedStart& checked,
                       const LoadedRun& loaded, const RunSaver&) {
  std::optional<train::Metrics>& metrics = checked.metrics;
  const std::int64_t step = loaded.progress.step;
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    point.set_aside_damaged();
    io::write_file_atomically(session.run().config(), config::dump(session.config));
    metrics->open(step, loaded.trainer.schedule().steps, session.config.train.log_every);
  });
  if (!metrics) return;
  if (metrics->last_kept() < step && checked.start.folder.parent_path() == session.checkpoints()) {
    core::log_warning(core::concat("metrics.jsonl lacks steps ", metrics->last_kept() + 1, " to ", step,
                                   ", which an earlier start computed: the curve has a hole there"));
  }
  if (metrics->recomputed() > 0) {
    core::log("steps ", step + 1, " to ", step + metrics->recomputed(), " were computed before and are computed again");
  }
}

train::LoopEnd train_to_the_end(const Session& session, run::OpenRun& held, CheckedStart& checked, LoadedRun& loaded,
                                RunSaver& saver, std::optional<double> end_of_job) {
  const config::Config& config = session.config;
  Model& model = loaded.model;
  train::SlowRanks slow_ranks(model.groups, config.train.log_every);
  const train::LoopParts parts{
      .context = model.context,
      .trainer = loaded.trainer,
      .batches = *checked.data.batches,
      .saver = saver,
      .metrics = checked.metrics ? &*checked.metrics : nullptr,
      .save_every = config.checkpoint.every,
      .save_seconds = config.checkpoint.minutes * 60,
      .evaluate_every = config.evaluate.every,
      .held_out_loss = [&](const std::function<bool()>& stop) -> std::optional<double> {
        watch::activity().enter_phase("held-out loss");
        const auto held_out = evaluate::held_out_loss(model.context, *model.decoder, *checked.data.held_out,
                                                      {config.evaluate.samples, config.train.micro_batch, stop});
        if (!held_out) return std::nullopt;
        return held_out->loss;
      },
      .alive =
          [&] {
            if (held.lock()) held.lock()->refresh();
          },
      .deadline = train::Deadline(end_of_job, config.checkpoint.margin, saver.expected_seconds()),
      .patience = config.watchdog.seconds,
      .numerics = {config.train.max_skipped, config.train.spike},
      .profile = config.train.profile,
      .slow_ranks = &slow_ranks};
  return train::run_loop(parts, loaded.progress);
}

/// What the record of starts says of an end in order.
std::string why_ended(const train::LoopEnd& end) {
  if (end.how == train::Ended::finished) return "all steps are done";
  if (end.signal == 0) return "stopped before the job's time limit, with a checkpoint";
  return core::concat("stopped by signal ", end.signal, ", with a checkpoint");
}

core::ExitCode train_in(const Session& session, run::OpenRun& held, std::optional<double> end_of_job) {
  run::ResumePoint point(session.world, held, resume_wish(session));
  CheckedStart checked(session, point);
  LoadedRun loaded(session, held, point, checked);
  RunSaver saver(session, loaded.model.grid, loaded.trainer.optimizer(), loaded.store,
                 checked.data.files(session.config.evaluate.samples), held.lock());
  change_run_folder(session, point, checked, loaded, saver);
  const train::LoopEnd end = train_to_the_end(session, held, checked, loaded, saver, end_of_job);
  const core::ExitCode code = end.how == train::Ended::stopped ? core::ExitCode::requeue : core::ExitCode::done;
  // All ranks are here and all is on disk. A node, a network or a storage that goes now holds the job up no longer.
  constexpr double longest_end = 20;  // seconds
  core::leave_within(longest_end, code, "");
  held.ended(code, why_ended(end), loaded.progress.step);
  if (end.how == train::Ended::finished) {
    core::log("finished: ", loaded.progress.step, " steps, ", loaded.progress.tokens, " tokens, ",
              loaded.progress.response_tokens, " of them responses");
  }
  return code;
}

}  // namespace

int train(const Session& session) {
  std::optional<double> end_of_job;
  comm::on_all_ranks(session.world, [&] { end_of_job = run::end_of_job(); });
  run::OpenRun held(session.world, session.run());
  try {
    return static_cast<int>(train_in(session, held, end_of_job));
  } catch (...) {
    const comm::Failure failure = comm::attempt([] { throw; });
    constexpr double longest_end = 60;  // seconds: the storage of the run folder may be what failed
    core::leave_within(longest_end, failure.code, session.first() ? failure.message : "");
    held.ended(failure.code, failure.message);
    throw;
  }
}

}  // namespace caravan::commands
