// SPDX-License-Identifier: Apache-2.0
// The loop over steps: when it saves and evaluates, and that a run goes on from a save as if nothing had been.
#include "train/loop.hpp"

#include <sstream>

#include "tests/io/expect_error.hpp"
#include "tests/train/loop_run.hpp"

namespace caravan::tests {
namespace {

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

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(test::read_text(path));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

}  // namespace

// tests/layouts/traffic_test.cpp has the trainer's step alone.
TEST_CASE("the loop adds one collective a step, to agree on stopping and on saves") {
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
      whole.metrics = &metrics.emplace(run_folder.path() / "metrics.jsonl", 0);
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

TEST_CASE("a save in the background moves on at a step's end once all ranks have written") {
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
      run.metrics = &metrics.emplace(run_folder.path() / "metrics.jsonl", 0);
      metrics->open(0, last_step, 1000);
    }
    // Asked once at each boundary: written at the second one after a stage begins; a last save is waited for.
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
    CHECK_FALSE(ending.begun);
    // A failure is everybody's, and nothing is under way then.
    Run failing(grid, data.file);
    failing.polls = 1;
    failing.fails_at = 3;
    test::expect_error(core::ExitCode::storage_full, {"no space"}, [&] { failing.go(3, 0); });
    CHECK(failing.progress.step == (alone ? 5 : 6));
    CHECK_FALSE(failing.begun);
  }
}

}  // namespace caravan::tests
