// SPDX-License-Identifier: Apache-2.0
// A run of the training loop on a small model, whose saves are kept in memory.
#pragma once

#include <csignal>
#include <map>

#include "comm/agreement.hpp"
#include "data/packed_file.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/train/whole_state.hpp"
#include "train/loop.hpp"

namespace caravan::tests {

using Steps = std::vector<std::int64_t>;

inline constexpr std::int64_t sequences = 7;  // two batches of four an epoch, the second one with three
inline constexpr std::int64_t batch = 4;
inline constexpr std::int64_t last_step = 6;

inline std::string write_packed(const test::ScratchFolder& folder) {
  data::PackedMetadata metadata;
  metadata.template_name = "idae";
  metadata.packing = "none";
  metadata.sequence = 16;
  metadata.vocabulary = small_spec().vocabulary;
  metadata.part = "train";
  data::PackedWriter writer(metadata);
  for (std::int64_t s = 0; s < sequences; ++s) {
    const data::TokenBatch drawn = random_batch({4 + 5 * s % 11}, static_cast<std::uint64_t>(s), metadata.vocabulary);
    std::vector<std::uint8_t> labelled;
    for (const std::int32_t target : drawn.targets) labelled.push_back(target >= 0 ? 1 : 0);
    writer.add({drawn.tokens, labelled});
  }
  std::string path = (folder / "train.bin").string();
  io::AtomicFile file(path);
  writer.write(file);
  file.commit();
  return path;
}

/// What a checkpoint holds.
struct Saved {
  nlohmann::json progress;
  MemorySource state;
};

/// A model in training on a grid, and what its loop did.
struct Run : train::Saver {
  Run(const OnGrid& where, const data::PackedFile& file)
      : grid(where),
        model(where.context, small_spec()),
        trainer(where.context, *model.decoder, model.parameters, options(), 0.1, {options().lr, 2, last_step}),
        batches(file, {.seed = 5, .batch = batch, .micro_batch = 1, .dp_size = where.context.grid.dp()}) {}

  static train::Options options() {
    train::Options result;
    result.lr = 0.01;
    result.expert_dropout = 0.2;
    return result;
  }

  void resume(const Saved& from) {
    model.parameters.load_trainable(from.state);
    trainer.optimizer().load(from.state);
    progress = train::Progress::from_json(from.progress, "memory");
  }

  train::Ended go(std::int64_t save_every, std::int64_t evaluate_every) {
    train::LoopParts parts{.context = grid.context,
                           .trainer = trainer,
                           .batches = batches,
                           .saver = *this,
                           .metrics = metrics,
                           .save_every = save_every,
                           .save_seconds = save_seconds,
                           .evaluate_every = evaluate_every,
                           .held_out_loss = {},
                           .alive = {},
                           .deadline = deadline};
    parts.held_out_loss = [&](const std::function<bool()>& stop) -> std::optional<double> {
      evaluations.push_back(progress.step);
      if (progress.step == ends_at) throw comm::AgreedError(core::ExitCode::numerics, "not finite");
      if (stop()) return std::nullopt;
      return 1.0 / static_cast<double>(progress.step);
    };
    parts.alive = [&] {
      if (!boundaries.empty() && boundaries.back() == progress.step) return;  // while it waits for a save
      boundaries.push_back(progress.step);
      if (progress.step == poisoned_after) poison();
      if (progress.step == healed_after) heal();
      raise_at(stop_at);
    };
    return train::run_loop(parts, progress).how;
  }

  /// The last rank gets a signal.
  void raise_at(std::int64_t step) const {
    const layout::Grid& ranks = grid.context.grid;
    if (progress.step == step && ranks.rank() == ranks.world() - 1) std::raise(SIGUSR1);
  }

  /// From here on every loss is NaN, and steps are skipped.
  void poison() {
    for (const layout::ParameterSpec& spec : model.parameters.specs()) {
      if (!spec.trainable) continue;
      at::Tensor& value = model.parameters.trainable(spec.name).value;
      whole[spec.name] = value.clone();
      value.fill_(std::numeric_limits<float>::quiet_NaN());
    }
  }
  void heal() {
    for (const auto& [name, value] : whole) model.parameters.trainable(name).value.copy_(value);
  }

  MemorySource state() { return whole_state(trainer.optimizer(), model.parameters.specs(), grid.context); }

  // The saver: a stage is written on a rank when it has been asked for that often, on the first at once. In the
  // background there are two.
  bool in_background() const override { return polls > 0; }
  void begin(const train::Progress& now, std::optional<double> held_out_loss, bool doubtful) override {
    CHECK_FALSE(begun);
    begun = now.step;
    asked = 0;
    stages = in_background() ? 2 : 1;
    losses[now.step] = held_out_loss;
    if (doubtful) doubts.push_back(now.step);
    saved[now.step] = {now.to_json(), state()};
  }
  train::Writing look(std::chrono::milliseconds) override {
    REQUIRE(begun);
    return {.done = grid.context.grid.rank() == 0 || asked++ >= polls, .seconds = write_seconds, .silent = silence};
  }
  std::string writing() const override { return "the save of step " + std::to_string(*begun); }
  std::optional<std::string> advance() override {
    CHECK((grid.context.grid.rank() == 0 || asked > polls));
    asked = 0;
    if (--stages > 0) return std::nullopt;
    saves.push_back(*begun);
    commits.push_back(progress.step);
    begun.reset();
    if (saves.back() == fails_at) throw comm::AgreedError(core::ExitCode::storage_full, "no space");
    return "to memory";
  }

  const OnGrid& grid;
  RandomModel model;
  train::Trainer trainer;
  data::Batches batches;
  train::Progress progress;
  train::Metrics* metrics = nullptr;
  train::Deadline deadline;
  std::int64_t stop_at = 0, fails_at = 0, ends_at = 0, poisoned_after = 0, healed_after = 0;  // steps
  std::map<std::string, at::Tensor> whole;
  int polls = 0;
  int asked = 0;
  int stages = 0;
  double silence = 0, write_seconds = 0.25, save_seconds = 0;
  std::optional<std::int64_t> begun;
  Steps saves, commits, doubts, evaluations, boundaries;
  std::map<std::int64_t, std::optional<double>> losses;
  std::map<std::int64_t, Saved> saved;
};

struct Data {
  test::ScratchFolder folder;
  data::PackedFile file{write_packed(folder)};
};

/// One layout and the one that is most unlike it.
inline auto two_layouts() {
  auto grids = few_layouts(comm::make_world(60)->size());
  if (grids.size() > 2) grids.erase(grids.begin() + 1);
  return grids;
}

}  // namespace caravan::tests
