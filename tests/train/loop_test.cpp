// SPDX-License-Identifier: Apache-2.0
// The loop over steps: when it saves, evaluates and stops, and that a run goes on from a save as if nothing had been.
#include "train/loop.hpp"

#include <csignal>
#include <map>
#include <sstream>

#include "core/stop_request.hpp"
#include "data/packed_file.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/train/whole_state.hpp"

namespace caravan::tests {
namespace {

using Steps = std::vector<std::int64_t>;

constexpr std::int64_t sequences = 7;  // two batches of four an epoch, the second one with three
constexpr std::int64_t batch = 4;
constexpr std::int64_t last_step = 6;

std::string write_packed(const test::ScratchFolder& folder) {
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
struct Run {
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

  /// stop_at: the step after which the last rank gets a signal.
  train::Ended go(std::int64_t save_every, std::int64_t evaluate_every, std::int64_t stop_at = 0) {
    train::LoopParts parts{grid.context, trainer, batches, metrics, save_every, {}, evaluate_every, {}, {}};
    parts.save = [&](const train::Progress& now) {
      saves.push_back(now.step);
      saved[now.step] = {now.to_json(), state()};
    };
    parts.held_out_loss = [&] {
      evaluations.push_back(progress.step);
      return 1.0;
    };
    parts.at_step_boundary = [&] {
      boundaries.push_back(progress.step);
      const layout::Grid& ranks = grid.context.grid;
      if (progress.step == stop_at && ranks.rank() == ranks.world() - 1) std::raise(SIGUSR1);
    };
    return train::run_loop(parts, progress);
  }

  MemorySource state() { return whole_state(trainer.optimizer(), model.parameters.specs(), grid.context); }

  const OnGrid& grid;
  RandomModel model;
  train::Trainer trainer;
  data::Batches batches;
  train::Progress progress;
  train::Metrics* metrics = nullptr;
  Steps saves, evaluations, boundaries;
  std::map<std::int64_t, Saved> saved;
};

using Calls = std::map<std::string, std::int64_t>;  // by "GROUP: OPERATION"

/// Collectives since the counts of `before`; those of whole_state are the test's own.
Calls calls_since(const Calls& before, const comm::Groups& groups) {
  Calls calls;
  for (const auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) {
      if (operation == "join pieces" || operation == "count owners") continue;
      const std::string name = (*group)->name() + ": " + operation;
      const auto earlier = before.find(name);
      const std::int64_t made = traffic.calls - (earlier == before.end() ? 0 : earlier->second);
      if (made > 0) calls[name] = made;
    }
  }
  return calls;
}

bool same(const MemorySource& a, const MemorySource& b) {
  for (const auto& [name, tensor] : a.tensors) {
    if (!tensor.equal(b.tensors.at(name))) return false;
  }
  return a.tensors.size() == b.tensors.size();
}

}  // namespace

// tests/layouts/traffic_test.cpp has the trainer's step alone.
TEST_CASE("to the trainer's collectives the loop adds one number a step, to agree on stopping") {
  const test::ScratchFolder folder;
  const data::PackedFile file(write_packed(folder));
  for (const auto& [tp, ep] : few_layouts(comm::make_world(60)->size())) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep), loop_grid(tp, ep);
    Run once(grid, file), loop(loop_grid, file);
    const Calls loading = calls_since({}, grid.groups);  // the same for both
    const data::GlobalBatch global = once.batches.next(once.progress.position);
    std::vector<data::TokenBatch> micro_batches;
    for (std::int64_t m = 0; m < once.batches.accumulation(); ++m) {
      micro_batches.push_back(once.batches.micro_batch(global, m, grid.context.grid.dp_rank()));
    }
    once.trainer.step(1, micro_batches, {global.tokens, global.targets});
    Calls wanted = calls_since(loading, grid.groups);
    for (auto& [operation, calls] : wanted) calls *= last_step;

    loop.go(0, 0);
    Calls calls = calls_since(loading, loop_grid.groups);
    for (auto* of : {&wanted, &calls}) {  // the logits of a batch without a target are never made
      for (const char* operation : {"tp: maximum of logits", "tp: sums of logits"}) of->erase(operation);
    }
    const std::int64_t others = loop_grid.context.grid.world() - 1;
    if (others > 0) {
      wanted["world: agree on stopping"] = last_step;
      CHECK(loop_grid.groups.world->traffic().at("agree on stopping").bytes == last_step * 8 * others);
    }
    CHECK(calls == wanted);
  }
}

// One test case, because a signal that came stays for the rest of the process.
TEST_CASE("the loop saves and evaluates when due, goes on from a save, and stops together after a signal") {
  start_kernels();
  const test::ScratchFolder folder;
  const data::PackedFile file(write_packed(folder));
  std::int64_t targets = 0;
  for (std::int64_t s = 0; s < sequences; ++s) targets += file.targets(s);
  REQUIRE(targets > 0);
  const core::StopRequest stop_request;
  auto grids = few_layouts(comm::make_world(60)->size());
  if (grids.size() > 2) grids.erase(grids.begin() + 1);

  for (const auto& [tp, ep] : grids) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    Run whole(grid, file);
    const MemorySource before = whole.state();
    const test::ScratchFolder run_folder;
    std::optional<train::Metrics> metrics;
    if (grid.context.grid.rank() == 0) whole.metrics = &metrics.emplace(run_folder.path(), 0, last_step, 1000);
    CHECK(whole.go(2, 3) == train::Ended::finished);
    CHECK(whole.saves == Steps{2, 4, 6});
    CHECK(whole.evaluations == Steps{3, 6});
    CHECK(whole.boundaries == Steps{1, 2, 3, 4, 5, 6});
    CHECK(whole.progress.step == last_step);
    CHECK(whole.progress.position == data::Position{3, 0});  // three epochs of two batches
    CHECK(whole.progress.tokens == 3 * static_cast<std::int64_t>(file.tokens().size()));
    CHECK(whole.progress.response_tokens == 3 * targets);
    if (metrics) {
      std::istringstream lines(test::read_text(run_folder / "metrics.jsonl"));
      std::int64_t step = 0;
      for (std::string line; std::getline(lines, line);) {
        const nlohmann::json json = nlohmann::json::parse(line);
        CHECK(json.at("step") == ++step);
        CHECK(json.at("lr").get<double>() == whole.trainer.schedule().rate(step));
        CHECK(json.contains("held_out_loss") == (step % 3 == 0));
      }
      CHECK(step == last_step);
    }
    const MemorySource after = whole.state();
    CHECK_FALSE(same(after, before));
    CHECK(same(whole.saved.at(last_step).state, after));

    // A save in the middle of an epoch and one between epochs; neither saving nor evaluating changes the run.
    for (const std::int64_t from : {2, 4}) {
      Run rest(grid, file);
      rest.resume(whole.saved.at(from));
      CHECK(rest.go(0, 0) == train::Ended::finished);
      CHECK(rest.saves == Steps{last_step});
      CHECK(rest.evaluations.empty());
      CHECK(rest.progress.to_json() == whole.progress.to_json());
      CHECK(same(rest.state(), after));
    }
    Run done(grid, file);
    done.resume(whole.saved.at(last_step));
    CHECK(done.go(1, 1) == train::Ended::finished);
    CHECK(done.boundaries.empty());
  }

  const OnGrid grid(grids.front().first, grids.front().second);
  Run stopped(grid, file);
  CHECK(stopped.go(2, 0, 3) == train::Ended::stopped);
  CHECK(stopped.saves == Steps{2, 3});
  CHECK(stopped.progress.step == 3);
}

}  // namespace caravan::tests
