// SPDX-License-Identifier: Apache-2.0
// What a run keeps besides its tensors: the schedule, the place in the data, the metrics.
#include <unistd.h>

#include "core/error.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "train/metrics.hpp"
#include "train/progress.hpp"
#include "train/schedule.hpp"

namespace caravan::train {
namespace {

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(test::read_text(path));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// One run of the program from `first` to `last`.
void record_steps(Metrics& metrics, std::int64_t first, std::int64_t last) {
  for (std::int64_t step = first; step <= last; ++step) {
    StepReport report;
    report.step = step;
    report.ce_loss = 1.0 / static_cast<double>(step);
    report.balance_loss = 0.01;
    report.loss = report.ce_loss + report.balance_loss;
    report.tokens = 100;
    report.targets = 40;
    report.assignments = 400;
    if (step == 3) report.dropped = 5;
    StepExtras extras;
    if (step == 4) extras.slowest = SlowRank{3, 0.25};
    metrics.record(report, 0.5, step % 2 == 0 ? std::optional<double>(3.5) : std::nullopt, extras);
  }
}

}  // namespace

TEST_CASE("the rate rises from zero over the warm-up and then stays") {
  const Schedule schedule{2e-4, 4, 100};
  CHECK(schedule.rate(1) == 0);
  CHECK(schedule.rate(2) == Approx(0.5e-4).epsilon(1e-14));
  CHECK(schedule.rate(4) == Approx(1.5e-4).epsilon(1e-14));
  CHECK(schedule.rate(5) == 2e-4);
  CHECK(schedule.rate(100) == 2e-4);
  const Schedule without_warmup{2e-4, 0, 100};
  CHECK(without_warmup.rate(1) == 2e-4);
}

TEST_CASE("steps and warm-up come from the options") {
  Options options;
  options.warmup_ratio = 0.03;
  options.epochs = 3;
  Schedule schedule = make_schedule(options, 70);
  CHECK(schedule.lr == options.lr);
  CHECK(schedule.steps == 210);
  CHECK(schedule.warmup == 7);  // 6.3, rounded up as transformers does
  options.warmup_steps = 2;
  CHECK(make_schedule(options, 70).warmup == 2);
  options.steps = 11;
  CHECK(make_schedule(options, 70).steps == 11);
}

TEST_CASE("a plan that trains nothing, or never at the full rate, is said so") {
  const auto line = [](std::int64_t warmup, std::int64_t steps, std::int64_t done) {
    return without_effect(Schedule{1e-3, warmup, steps}, done).value_or("");
  };
  const std::string advice = "; shorten it with train.warmup_steps or train.warmup_ratio, or plan more steps";
  CHECK(line(1, 1, 0) == "a warm-up of 1 for 1 step leaves none with a rate above 0: nothing is trained" + advice);
  CHECK(line(9, 5, 0) == "a warm-up of 9 for 5 steps does not end before they do: train.lr is never reached" + advice);
  CHECK_FALSE(line(5, 5, 3).empty());
  CHECK(line(4, 5, 0).empty());  // the last one has it
  CHECK(line(0, 1, 0).empty());
  CHECK(line(1, 2, 1).empty());
  CHECK(line(0, 5, 5) ==
        "nothing is left to train: the plan has 5 steps, and 5 are done; more come from train.steps or "
        "train.epochs");
  CHECK_FALSE(line(0, 0, 0).empty());
  // Nine sequences in batches of 32, one epoch, the published warm-up of 3 %.
  Options published;
  CHECK_FALSE(without_effect(make_schedule(published, steps_per_epoch(9, 32)), 0).value_or("").empty());
}

TEST_CASE("progress survives JSON, and a damaged one is refused with its place") {
  const Progress progress{7, {2, 13}, 123456789012345, 54321, 3};
  const nlohmann::json json = nlohmann::json::parse(progress.to_json().dump());
  const Progress again = Progress::from_json(json, "checkpoint");
  CHECK(again.step == 7);
  CHECK(again.skipped == 3);
  CHECK(again.position == progress.position);
  CHECK(again.tokens == progress.tokens);
  CHECK(again.response_tokens == progress.response_tokens);
  for (const char* field : {"step", "epoch", "index", "tokens", "response_tokens"}) {
    CAPTURE(field);
    for (const bool missing : {true, false}) {
      nlohmann::json damaged = json;
      if (missing) {
        damaged.erase(field);
      } else {
        damaged[field] = "seven";
      }
      try {
        Progress::from_json(damaged, "RUN/step-7");
        FAIL("no error");
      } catch (const core::Error& error) {
        CHECK(error.code() == core::ExitCode::bad_input);
        CHECK(std::string(error.what()).find("RUN/step-7") == 0);
      }
    }
  }
}

TEST_CASE("metrics: one line a step; a resume cuts what is computed again and counts") {
  const test::ScratchFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  {
    Metrics metrics(folder.path() / "metrics.jsonl", 0);
    metrics.open(0, 10, 1000);
    CHECK(metrics.restart() == 0);
    CHECK(metrics.recomputed() == 0);
    record_steps(metrics, 1, 5);
  }
  auto lines = lines_of(path);
  REQUIRE(lines.size() == 5);
  CHECK(lines[3].at("step") == 4);
  CHECK(lines[3].at("loss").get<double>() == 0.25 + 0.01);
  CHECK(lines[3].at("ce_loss").get<double>() == 0.25);
  CHECK(lines[3].at("tokens") == 100);
  CHECK(lines[3].at("response_tokens") == 40);
  CHECK(lines[3].at("seconds").get<double>() == 0.5);
  CHECK(lines[3].at("tokens_per_second").get<double>() == 200.0);
  CHECK(lines[3].at("held_out_loss").get<double>() == 3.5);
  CHECK_FALSE(lines[2].contains("held_out_loss"));
  CHECK(lines[3].at("slowest_rank") == 3);
  CHECK(lines[3].at("waited_for_slowest") == 0.25);
  CHECK_FALSE(lines[2].contains("slowest_rank"));
  CHECK(lines[2].at("dropped_assignments") == 5);
  CHECK_FALSE(lines[3].contains("dropped_assignments"));
  CHECK(lines[3].at("restart") == 0);

  {  // From the checkpoint of step 3: steps 4 and 5 are computed again.
    Metrics metrics(folder.path() / "metrics.jsonl", 3);
    metrics.open(3, 10, 1000);
    CHECK(metrics.restart() == 1);
    CHECK(metrics.recomputed() == 2);
    CHECK(lines_of(path).size() == 3);
    record_steps(metrics, 4, 7);
  }
  lines = lines_of(path);
  REQUIRE(lines.size() == 7);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CHECK(lines[i].at("step") == i + 1);
    CHECK(lines[i].at("restart") == (i < 3 ? 0 : 1));
  }

  // A crash in the middle of a line, then a resume from the newest step.
  test::write_text(path, test::read_text(path) + "{\"step\": 8, \"lo");
  {
    Metrics metrics(folder.path() / "metrics.jsonl", 7);
    metrics.open(7, 10, 1000);
    CHECK(metrics.restart() == 2);
    CHECK(metrics.recomputed() == 0);
    record_steps(metrics, 8, 8);
  }
  lines = lines_of(path);
  REQUIRE(lines.size() == 8);
  CHECK(lines[7].at("restart") == 2);
}

TEST_CASE("metrics with a line of something else are refused and left alone") {
  for (const char* line : {"{\"step\": 1}", "{\"step\": 1.5, \"restart\": 0}", "[1]", "not json"}) {
    CAPTURE(line);
    const test::ScratchFolder folder;
    const std::string text =
        "{\"step\": 1, \"restart\": 0}\n" + std::string(line) + "\n{\"step\": 2, \"restart\": 0}\n";
    test::write_text(folder / "metrics.jsonl", text);
    try {
      const Metrics metrics(folder.path() / "metrics.jsonl", 2);
      FAIL("no error");
    } catch (const core::Error& error) {
      CHECK(error.code() == core::ExitCode::bad_input);
      CHECK(std::string(error.what()).find((folder / "metrics.jsonl").string() + ":2: ") == 0);
    }
    CHECK(test::read_text(folder / "metrics.jsonl") == text);
  }
}

TEST_CASE("metrics of a run that lost all its checkpoints begin again") {
  const test::ScratchFolder folder;
  {
    Metrics metrics(folder.path() / "metrics.jsonl", 0);
    metrics.open(0, 10, 1000);
    record_steps(metrics, 1, 3);
  }
  Metrics metrics(folder.path() / "metrics.jsonl", 0);
  metrics.open(0, 10, 1000);
  CHECK(metrics.restart() == 1);
  CHECK(metrics.recomputed() == 3);
  CHECK(lines_of(folder / "metrics.jsonl").empty());
}

TEST_CASE("lines that a node without power spoiled are cut only if their steps come again") {
  const std::string good = "{\"step\": 1, \"restart\": 0}\n{\"step\": 2, \"restart\": 0}\n";
  const std::string zeros(300, '\0');
  const std::string later = "{\"step\": 4, \"restart\": 2}\n";
  for (const std::string& spoiled : {zeros, zeros + "\n", "{\"step\": 3, \"lo\n" + zeros + "\n", "{\"ste\n" + later}) {
    CAPTURE(spoiled);
    const test::ScratchFolder folder;
    const std::filesystem::path path = folder / "metrics.jsonl";
    test::write_text(path, good + spoiled);
    Metrics metrics(path, 2);
    CHECK(metrics.restart() == (spoiled.ends_with(later) ? 3 : 1));
    CHECK(test::read_text(path) == good + spoiled);
    metrics.open(2, 10, 1000);
    CHECK(metrics.last_kept() == 2);
    CHECK(metrics.recomputed() == (spoiled.ends_with(later) ? 2 : 0));
    CHECK(test::read_text(path) == good);
    record_steps(metrics, 3, 3);
    CHECK(lines_of(path).size() == 3);

    if (!spoiled.ends_with("\n")) continue;
    test::write_text(path, good + spoiled);
    Metrics later_start(path, 2);  // should another checkpoint be chosen than it was made for
    test::expect_error(core::ExitCode::bad_input, {path.string() + ":3: "}, [&] { later_start.open(3, 10, 1000); });
    test::expect_error(core::ExitCode::bad_input, {path.string() + ":3: ", "not JSON"},
                       [&] { const Metrics needed(path, 3); });
    CHECK(test::read_text(path) == good + spoiled);
  }
}

TEST_CASE("metrics report a hole below the step resumed from, and count no step twice") {
  const test::ScratchFolder folder;
  test::write_text(folder / "metrics.jsonl", "{\"step\": 1, \"restart\": 0}\n{\"step\": 5, \"restart\": 1}\n");
  Metrics metrics(folder.path() / "metrics.jsonl", 4);
  metrics.open(3, 10, 1000);
  CHECK(metrics.last_kept() == 1);
  CHECK(metrics.recomputed() == 2);
  CHECK(lines_of(folder / "metrics.jsonl").size() == 1);
}

}  // namespace caravan::train
