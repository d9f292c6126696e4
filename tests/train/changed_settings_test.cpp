// SPDX-License-Identifier: Apache-2.0
#include "train/changed_settings.hpp"

#include "core/error.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::train {
namespace {

constexpr std::int64_t sequences = 60;  // 8 batches of 8 an epoch, the last one with 4; or 4 of 16, the last with 12

nlohmann::json former(std::int64_t batch) {
  return {{"batch", batch}, {"seed", 42},        {"shuffle", true},    {"steps", 0},
          {"epochs", 2},    {"warmup_steps", 0}, {"warmup_ratio", 0.5}};
}

Options options_of(std::int64_t batch) {
  Options options;
  options.batch = batch;
  options.epochs = 2;
  return options;
}

Progress progress_at(std::int64_t step, const data::Position& position) {
  Progress progress;
  progress.step = step;
  progress.position = position;
  return progress;
}

const Progress middle = progress_at(4, {0, 32});  // 4 batches of 8

void accepts(const Options& options, const nlohmann::json& was, const Progress& progress) {
  CHECK_NOTHROW(require_same_course(options, was, progress, sequences, "step-4"));
}

void refuses(const Options& options, const nlohmann::json& was, const Progress& progress,
             const std::vector<std::string>& parts) {
  test::expect_error(core::ExitCode::bad_input, parts,
                     [&] { require_same_course(options, was, progress, sequences, "step-4"); });
}

}  // namespace

TEST_CASE("epochs are not counted in steps of another batch") {
  accepts(options_of(8), former(8), middle);
  accepts(options_of(8), former(8), progress_at(8, {1, 0}));
  accepts(options_of(8), former(8), progress_at(11, {1, 24}));
  refuses(options_of(16), former(8), middle,
          // 28 sequences of this epoch and 60 of the next one are left: 2 steps and 4.
          {"train.batch = 16, but train.batch = 8 made the 4 steps that led to step-4", "train.epochs = 2",
           "set it back", "train.steps = 10 uses up"});
  refuses(options_of(16), former(8), progress_at(8, {1, 0}), {"train.batch = 16", "train.steps = 12 uses up"});
  refuses(options_of(4), former(8), middle, {"train.batch = 4", "train.steps = 26 uses up"});
  refuses(options_of(16), former(8), progress_at(16, {2, 0}), {"train.steps = 16 uses up"});
}

TEST_CASE("whoever counts steps may change the batch") {
  Options options = options_of(16);
  options.steps = 10;
  options.epochs = 0;
  accepts(options, former(8), middle);
  // Back to epochs, some steps are of another batch, though the newest checkpoint was made with this one.
  options = options_of(16);
  refuses(options, former(16), progress_at(6, {1, 0}), {"train.batch = 16, but not all of the 6 steps"});
  try {
    require_same_course(options, former(16), progress_at(6, {1, 0}), sequences, "step-6");
  } catch (const core::Error& error) {
    CHECK(std::string(error.what()).find("set it back") == std::string::npos);  // it would not help
    CHECK(std::string(error.what()).find("plan in train.steps: train.steps = 10") != std::string::npos);
  }
  // An epoch that is one step whatever the batch.
  accepts(options_of(128), former(64), progress_at(1, {1, 0}));
}

TEST_CASE("the order of the data stays within an epoch") {
  Options options = options_of(8);
  options.seed = 7;
  refuses(options, former(8), middle, {"train.seed = 7, but step-4 was made with 42", "32 of the 60", "set it back"});
  accepts(options, former(8), progress_at(8, {1, 0}));  // which has its own order anyway
  options.shuffle = false;
  refuses(options, former(8), middle, {"train.shuffle = false, but step-4 was made with true"});
  accepts(options, former(8), progress_at(8, {1, 0}));
  // In the file's order the seed decides on dropout alone.
  nlohmann::json was = former(8);
  was["shuffle"] = false;
  accepts(options, was, middle);
  options.shuffle = true;
  refuses(options, was, middle, {"train.shuffle = true"});
  // Steps of one's own do not help here.
  options = options_of(8);
  options.seed = 7;
  options.steps = 20;
  refuses(options, former(8), middle, {"train.seed = 7"});
}

TEST_CASE("a checkpoint that records no settings resumes if its place in the data fits") {
  const nlohmann::json nothing = nlohmann::json::object();
  Options options = options_of(8);
  options.seed = 7;
  options.shuffle = false;
  accepts(options, nothing, middle);
  refuses(options_of(16), nothing, middle, {"train.batch = 16, but not all of the 4 steps", "set it back"});
  CHECK_FALSE(falls_back_into_warm_up({1, 100, 200}, nothing, 6, sequences));
}

TEST_CASE("a longer warm-up is reported when the rate falls into it") {
  const auto warning_of = [](std::int64_t warmup, const nlohmann::json& was, std::int64_t step) {
    return falls_back_into_warm_up({2e-4, warmup, 100}, was, step, sequences);
  };
  // 2 epochs of 8 steps, and half of them for the warm-up.
  const nlohmann::json was = former(8);
  const auto line = warning_of(20, was, 12);
  REQUIRE(line);
  for (const char* part : {"step 12", "has 20 steps, and had 8", "train.warmup_steps = 8"}) {
    CHECK(line->find(part) != std::string::npos);
  }
  CHECK_FALSE(warning_of(8, was, 12));
  CHECK_FALSE(warning_of(12, was, 12));  // step 13 is the first after it
  CHECK(warning_of(13, was, 12));
  CHECK_FALSE(warning_of(0, was, 12));
  // Within both: step 4 had 3/8, step 5 gets 4/20, or just 4/10.
  CHECK(warning_of(20, was, 4));
  CHECK_FALSE(warning_of(10, was, 4));
  nlohmann::json fixed = was;
  fixed["warmup_steps"] = 3;
  CHECK(warning_of(5, fixed, 4)->find("had 3") != std::string::npos);
  nlohmann::json steps = was;
  steps["steps"] = 6;
  CHECK(warning_of(10, steps, 6)->find("has 10 steps, and had 3") != std::string::npos);
}

}  // namespace caravan::train
