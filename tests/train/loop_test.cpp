// SPDX-License-Identifier: Apache-2.0
// The loop over steps: when it saves, evaluates and stops, and that a run goes on from a save as if nothing had been.
#include "train/loop.hpp"

#include <csignal>
#include <map>
#include <sstream>

#include "comm/agreement.hpp"
#include "core/stop_request.hpp"
#include "data/packed_file.hpp"
#include "tests/io/expect_error.hpp"
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
    return train::run_loop(parts, progress);
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

  // The saver: a stroke is written on a rank when it has been asked for that often, on the first at once. In the
  // background there are two.
  bool in_background() const override { return polls > 0; }
  void begin(const train::Progress& now, std::optional<double> held_out_loss, bool doubtful) override {
    CHECK_FALSE(begun);
    begun = now.step;
    asked = 0;
    strokes = in_background() ? 2 : 1;
    losses[now.step] = held_out_loss;
    if (doubtful) doubts.push_back(now.step);
    saved[now.step] = {now.to_json(), state()};
  }
  bool under_way() const override { return begun.has_value(); }
  bool written(std::chrono::milliseconds) override {
    REQUIRE(begun);
    return grid.context.grid.rank() == 0 || asked++ >= polls;
  }
  double silent() const override { return silence; }
  std::string writing() const override { return "the save of step " + std::to_string(*begun); }
  double seconds() const override { return write_seconds; }
  std::optional<std::string> advance() override {
    CHECK((grid.context.grid.rank() == 0 || asked > polls));
    asked = 0;
    if (--strokes > 0) return std::nullopt;
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
  int strokes = 0;
  double silence = 0, write_seconds = 0.25, save_seconds = 0;
  std::optional<std::int64_t> begun;
  Steps saves, commits, doubts, evaluations, boundaries;
  std::map<std::int64_t, std::optional<double>> losses;
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

struct Data {
  test::ScratchFolder folder;
  data::PackedFile file{write_packed(folder)};
};

/// One layout and the one that is most unlike it.
auto two_layouts() {
  auto grids = few_layouts(comm::make_world(60)->size());
  if (grids.size() > 2) grids.erase(grids.begin() + 1);
  return grids;
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(test::read_text(path));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

}  // namespace

// tests/layouts/traffic_test.cpp has the trainer's step alone.
TEST_CASE("to the trainer's collectives the loop adds one a step, to agree on stopping and on saves") {
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
      const std::int64_t agreements = last_step + 2;  // before the first step, and for the last save
      wanted["world: agree on stopping"] = agreements;
      CHECK(loop_grid.groups.world->traffic().at("agree on stopping").bytes == agreements * 56 * others);
    }
    CHECK(calls == wanted);
  }
}

TEST_CASE("the loop saves and evaluates when due, and goes on from a save") {
  start_kernels();
  const Data data;
  const data::PackedFile& file = data.file;
  std::int64_t targets = 0;
  for (std::int64_t s = 0; s < sequences; ++s) targets += file.targets(s);
  REQUIRE(targets > 0);
  for (const auto& [tp, ep] : two_layouts()) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    Run whole(grid, file);
    const MemorySource before = whole.state();
    const test::ScratchFolder run_folder;
    std::optional<train::Metrics> metrics;
    if (grid.context.grid.rank() == 0) {
      whole.metrics = &metrics.emplace(run_folder.path(), 0);
      metrics->open(0, last_step, 1000);
    }
    CHECK(whole.go(2, 3) == train::Ended::finished);
    CHECK(whole.saves == Steps{2, 4, 6});
    CHECK(whole.commits == Steps{2, 4, 6});
    CHECK((whole.losses == std::map<std::int64_t, std::optional<double>>{{2, {}}, {4, {}}, {6, 1.0 / 6}}));
    CHECK(whole.evaluations == Steps{3, 6});
    CHECK(whole.boundaries == Steps{1, 2, 3, 4, 5, 6});
    CHECK(whole.progress.step == last_step);
    CHECK(whole.progress.position == data::Position{3, 0});  // three epochs of two batches
    CHECK(whole.progress.tokens == 3 * static_cast<std::int64_t>(file.tokens().size()));
    CHECK(whole.progress.response_tokens == 3 * targets);
    if (metrics) {
      std::int64_t step = 0;
      for (const nlohmann::json& json : lines_of(run_folder / "metrics.jsonl")) {
        CHECK(json.at("step") == ++step);
        CHECK(json.at("lr").get<double>() == whole.trainer.schedule().rate(step));
        CHECK(json.contains("held_out_loss") == (step % 3 == 0));
        CHECK(json.contains("save_stall_seconds") == (step % 2 == 0));
        CHECK(json.contains("save_seconds") == (step % 2 == 0));
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
}

TEST_CASE("a save in the background moves on at the first boundary at which all ranks have written, until it counts") {
  start_kernels();
  const Data data;
  for (const auto& [tp, ep] : two_layouts()) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    const bool alone = grid.context.grid.world() == 1;
    const test::ScratchFolder run_folder;
    std::optional<train::Metrics> metrics;
    Run run(grid, data.file);
    if (grid.context.grid.rank() == 0) {
      run.metrics = &metrics.emplace(run_folder.path(), 0);
      metrics->open(0, last_step, 1000);
    }
    // Asked once at each boundary: written at the second one after a stroke; a last save is waited for.
    run.polls = 1;
    CHECK(run.go(3, 0) == train::Ended::finished);
    CHECK(run.saves == Steps{3, 6});
    CHECK(run.commits == (alone ? Steps{5, 6} : Steps{6, 6}));
    if (metrics) {
      for (const nlohmann::json& json : lines_of(run_folder / "metrics.jsonl")) {
        const std::int64_t step = json.at("step");
        CHECK(json.contains("save_stall_seconds") == (step == 3 || (step == 4 && alone) || step == 5 || step == 6));
        CHECK(json.contains("save_seconds") == (step == run.commits[0] || step == 6));
      }
    }
    // One that is due waits for the one before.
    Run slow(grid, data.file);
    slow.polls = 3;
    CHECK(slow.go(2, 0) == train::Ended::finished);
    CHECK(slow.saves == Steps{2, 4, 6});
    CHECK(slow.commits == Steps{4, 6, 6});
    const MemorySource after = slow.state();
    Run rest(grid, data.file);
    rest.resume(slow.saved.at(4));
    CHECK(rest.go(0, 0) == train::Ended::finished);
    CHECK(same(rest.state(), after));
    // An error of all ranks, here in an evaluation: the save that is under way is finished before they end.
    Run ending(grid, data.file);
    ending.polls = 4;
    ending.ends_at = 3;
    test::expect_error(core::ExitCode::numerics, {"not finite"}, [&] { ending.go(2, 3); });
    CHECK(ending.saves == Steps{2});
    CHECK_FALSE(ending.under_way());
    // A failure is everybody's, and nothing is under way then.
    Run failing(grid, data.file);
    failing.polls = 1;
    failing.fails_at = 3;
    test::expect_error(core::ExitCode::storage_full, {"no space"}, [&] { failing.go(3, 0); });
    CHECK(failing.progress.step == (alone ? 5 : 6));
    CHECK_FALSE(failing.under_way());
  }
}

TEST_CASE("a save that is due in a row of skipped steps is made after the first one that is an update") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().back().first, two_layouts().back().second);
  Run run(grid, data.file);
  run.poisoned_after = 2;
  run.healed_after = 4;
  CHECK(run.go(2, 0) == train::Ended::finished);
  CHECK(run.progress.skipped == 2);
  CHECK(run.saves == Steps{2, 5, 6});
  CHECK(run.doubts.empty());
  // The last one cannot be put off, but no older one may go for it.
  Run until_the_end(grid, data.file);
  until_the_end.poisoned_after = 3;
  CHECK(until_the_end.go(2, 0) == train::Ended::finished);
  CHECK(until_the_end.saves == Steps{2, 6});
  CHECK(until_the_end.doubts == Steps{6});
}

TEST_CASE("the last save is begun while there is time for it") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run run(grid, data.file);
  run.polls = 1;
  // The end lies far away for rank 0 alone, which decides.
  const double now = train::unix_seconds();
  const bool first = grid.context.grid.rank() == 0;
  run.deadline = {first ? now + 10000 : now, 5, 1};
  CHECK(run.go(0, 0) == train::Ended::finished);

  // Before the first step there must be time for a save and the margin: there is; after it there is none for another.
  Run one(grid, data.file);
  one.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 1};
  one.deadline.stepped(998);
  CHECK(one.go(0, 0) == train::Ended::stopped);
  CHECK(one.progress.step == 1);
  CHECK(one.saves == Steps{1});
  CHECK_FALSE(one.under_way());

  Run none(grid, data.file);
  none.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 996};
  test::expect_error(core::ExitCode::internal, {"the time limit is too short for start + one step", "996.00 s"},
                     [&] { none.go(0, 0); });
  CHECK(none.saves.empty());

  // There is time for one save, and another would have to follow the one that is due after step 1.
  Run due(grid, data.file);
  due.polls = 10;
  due.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 600};
  CHECK(due.go(1, 0) == train::Ended::stopped);
  CHECK(due.saves == Steps{1});

  // Two strokes of 200 s: that the save of step 1 took as long is known after step 2, when that of step 2 is begun, and
  // then there is no time for that one, another and step 3's evaluation, which is given up.
  Run evaluating(grid, data.file);
  evaluating.polls = 1;
  evaluating.write_seconds = 200;
  evaluating.deadline = {first ? std::optional(now + 700) : std::nullopt, 5, 1};
  CHECK(evaluating.go(1, 3) == train::Ended::stopped);
  CHECK(evaluating.evaluations == Steps{3});
  CHECK(evaluating.saves == Steps{1, 2, 3});
  CHECK_FALSE(evaluating.losses.at(3));
  CHECK(evaluating.commits == Steps{2, 3, 3});

  // Likewise, and when that of step 2 counts there is no time for a third one.
  Run slow(grid, data.file);
  slow.polls = 1;
  slow.write_seconds = 600;
  slow.deadline = {first ? std::optional(now + 1000) : std::nullopt, 5, 1};
  CHECK(slow.go(1, 0) == train::Ended::stopped);
  CHECK(slow.progress.step == 3);
  CHECK(slow.saves == Steps{1, 2});
  CHECK_FALSE(slow.under_way());
}

TEST_CASE("a save is due when the newest one began long enough ago") {
  start_kernels();
  const Data data;
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run always(grid, data.file);
  // Any two boundaries are further apart than this, by the clock of rank 0, which decides.
  always.save_seconds = grid.context.grid.rank() == 0 ? 1e-9 : 1e9;
  CHECK(always.go(4, 0) == train::Ended::finished);
  CHECK(always.saves == Steps{1, 2, 3, 4, 5, 6});
  Run never(grid, data.file);
  never.save_seconds = grid.context.grid.rank() == 0 ? 1e9 : 1e-9;
  CHECK(never.go(4, 0) == train::Ended::finished);
  CHECK(never.saves == Steps{4, 6});
}

// The last test case: a signal that came stays for the rest of the process.
TEST_CASE("the loop stops together after a signal") {
  start_kernels();
  const Data data;
  const core::StopRequest stop_request("it was too short");
  const OnGrid grid(two_layouts().front().first, two_layouts().front().second);
  Run stopped(grid, data.file);
  stopped.polls = 4;  // the save of step 2 is under way when the signal comes
  stopped.stop_at = 3;
  CHECK(stopped.go(2, 0) == train::Ended::stopped);
  CHECK(stopped.saves == Steps{2, 3});
  CHECK(stopped.commits == Steps{3, 3});
  CHECK(stopped.progress.step == 3);

  // Now that there is one: before the first step nothing is done.
  Run none(grid, data.file);
  test::expect_error(core::ExitCode::internal, {"stopped by signal 10: it was too short"}, [&] { none.go(1, 0); });
  CHECK(none.progress.step == 0);
  CHECK(none.saves.empty());
}

}  // namespace caravan::tests
