// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/open_packed.hpp"
#include "commands/open_run.hpp"
#include "commands/resume.hpp"
#include "commands/run_saver.hpp"
#include "commands/start.hpp"
#include "core/build_facts.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "evaluate/held_out.hpp"
#include "io/atomic_file.hpp"
#include "layout/placement.hpp"
#include "train/loop.hpp"

namespace caravan::commands {
namespace {

struct OpenData {
  std::optional<data::PackedFile> packed, held_out;
  std::optional<data::Batches> batches;

  OpenData(const Session& session, const Start& start, int dp_size) {
    const config::Config& config = session.config;
    packed.emplace(open_packed(session, config.data.packed));
    if (config.evaluate.every > 0) held_out.emplace(open_packed(session, data::held_out_path(config.data)));
    comm::on_all_ranks(session.world, [&] {
      require_same_tokens(*packed, start);
      if (packed->metadata().sequence > config.train.sequence) {
        core::bad_input(packed->path(), " was prepared for sequences of ", packed->metadata().sequence,
                        " tokens, longer than train.sequence = ", config.train.sequence, "; run caravan prepare again");
      }
      if (held_out) require_same_tokens(*held_out, start);
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

void announce(const Session& session, const Model& model, const family::ModelSpec& spec, const data::PackedFile& packed,
              const data::Batches& batches, const train::Schedule& schedule) {
  const train::Options& options = session.config.train;
  core::log(core::build_facts_text());
  const layout::Placement placement = layout::placement_of(model.grid, comm::node_of_each_rank(session.world));
  core::log(model.grid.describe(), ", on ", layout::describe(placement));
  if (placement.tp_span > 1) {
    core::log_warning(
        "TP groups span nodes, whose network each layer waits for; start a multiple of layout.tp ranks on every node");
  }
  core::log(packed.sequences(), " sequences, batch ", options.batch, " in ", batches.accumulation(), " micro-step",
            batches.accumulation() == 1 ? "" : "s", ", ", schedule.steps, " steps, warm-up ", schedule.warmup,
            ", computing in ", options.precision);
  if (packed.metadata().sequence > family::known_positions(spec)) {
    core::log_warning(core::concat(packed.path(), " was prepared for sequences of ", packed.metadata().sequence,
                                   " tokens, longer than the ", family::known_positions(spec),
                                   " positions that the model was made for (max_position_embeddings, times the factor "
                                   "of the rotary scaling)"));
  }
  if (!packed.has_targets()) {
    core::log_warning(packed.path() + " has no response token, so that there is nothing to learn from it");
  }
  if (options.balance_loss > 0 && options.balance_scope == "batch" && batches.accumulation() > 1) {
    core::log("the balance loss is measured over micro-steps of ", options.batch / batches.accumulation(),
              " sequences; train.balance_scope = sequence does not depend on the layout");
  }
}

}  // namespace

int train(const Session& session) {
  const config::Config& config = session.config;
  std::optional<double> end_of_job;
  comm::on_all_ranks(session.world, [&] { end_of_job = train::end_of_job(); });
  OpenRun run(session);  // before anything is chosen: who holds it deletes checkpoints
  ResumePoint point(session);
  Start start = point.open();
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) require_same_model(session, start);  // every rank has the same configuration and checkpoint
  });
  const family::BatchSplit split{config.train.batch, config.train.micro_batch};
  OpenData data(session, start, checked_grid(session, start.spec, split).dp());
  comm::on_all_ranks(session.world, [&] { require_same_course(session, start, *data.packed); });
  std::optional<train::Metrics> metrics;
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) metrics.emplace(session.run_folder(), start.reader->step());
  });
  run.begin_log();  // not before: a start that is refused for its settings or files writes nothing
  const auto watchdog = comm::start_watchdog(session.world, session.run_folder() / "watchdog", config.watchdog.seconds);
  Model model(session, start);

  const std::int64_t per_epoch = train::steps_per_epoch(data.packed->sequences(), config.train.batch);
  train::Trainer trainer(model.context, *model.decoder, model.parameters, config.train, config.lora.dropout,
                         train::make_schedule(config.train, per_epoch));
  announce(session, model, start.spec, *data.packed, *data.batches, trainer.schedule());
  train::Progress progress = resume(session, point, start, model, trainer, *data.packed);
  if (const auto warning = train::without_effect(trainer.schedule(), progress.step)) core::log_warning(*warning);

  // The frozen tensors that this run began with, wherever its checkpoint came from.
  checkpoint::StoreReference store;
  comm::on_all_ranks(session.world, [&] {
    store = checkpoint::store_reference(start.store, checkpoint::step_folder(session.checkpoints(), 0));
  });
  start.reader.reset();  // all is read; open files would keep what is deleted later on the disk
  RunSaver saver(session, model.grid, trainer.optimizer(), store, data.files(config.evaluate.samples), run.lock());
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    // Only now: a start that is refused leaves the metrics, checkpoints and configuration of the run alone.
    point.set_aside_damaged();
    io::write_file_atomically(session.run_folder() / "config.ini", config::dump(config));
    metrics->open(progress.step, trainer.schedule().steps, config.train.log_every);
  });
  if (metrics && metrics->last_kept() < progress.step && start.folder.parent_path() == session.checkpoints()) {
    core::log_warning(core::concat("metrics.jsonl lacks steps ", metrics->last_kept() + 1, " to ", progress.step,
                                   ", which an earlier start computed: the curve has a hole there"));
  }
  if (metrics && metrics->recomputed() > 0) {
    core::log("steps ", progress.step + 1, " to ", progress.step + metrics->recomputed(),
              " were computed before and are computed again");
  }

  train::SlowRanks slow_ranks(model.groups, config.train.log_every);
  const train::LoopParts parts{
      .context = model.context,
      .trainer = trainer,
      .batches = *data.batches,
      .saver = saver,
      .metrics = metrics ? &*metrics : nullptr,
      .save_every = config.checkpoint.every,
      .save_seconds = config.checkpoint.minutes * 60,
      .evaluate_every = config.evaluate.every,
      .held_out_loss = [&](const std::function<bool()>& stop) -> std::optional<double> {
        watch::activity().enter_phase("held-out loss");
        const auto held_out = evaluate::held_out_loss(
            model.context, *model.decoder, *data.held_out,
            {config.evaluate.samples, config.train.micro_batch, config.train.exchange_mib << 20, stop});
        if (!held_out) return std::nullopt;
        return held_out->loss;
      },
      .alive =
          [&] {
            if (run.lock()) run.lock()->refresh();
          },
      .deadline = train::Deadline(end_of_job, config.checkpoint.margin, saver.expected_seconds()),
      .patience = config.watchdog.seconds,
      .numerics = {config.train.max_skipped, config.train.spike},
      .profile = config.train.profile,
      .slow_ranks = &slow_ranks};
  const bool stopped = train::run_loop(parts, progress) == train::Ended::stopped;
  const core::ExitCode code = stopped ? core::ExitCode::requeue : core::ExitCode::done;
  // All ranks are here and all is on disk. A node, a network or a storage that goes now holds the job up no longer.
  constexpr double longest_end = 20;  // seconds
  core::leave_within(longest_end, code, "");
  if (!stopped) {
    core::log("finished: ", progress.step, " steps, ", progress.tokens, " tokens, ", progress.response_tokens,
              " of them responses");
  }
  return static_cast<int>(code);
}

}  // namespace caravan::commands
