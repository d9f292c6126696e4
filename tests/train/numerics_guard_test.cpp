// SPDX-License-Identifier: Apache-2.0
#include "train/numerics_guard.hpp"

#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::tests {
namespace {

data::GlobalBatch batch_of(const std::vector<std::int64_t>& sequences) {
  data::GlobalBatch batch;
  for (const std::int64_t sequence : sequences) batch.samples.push_back({sequence, 0});
  return batch;
}

train::StepReport report_of(std::int64_t step, double loss) {
  train::StepReport report;
  report.step = step;
  report.loss = report.ce_loss = loss;
  report.grad_norm = 1;
  report.skipped = !std::isfinite(loss);
  return report;
}

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
const data::GlobalBatch some = batch_of({7, 3});

}  // namespace

TEST_CASE("A loss far above those before it is reported with its sequences", "[numerics]") {
  train::NumericsGuard guard({.most_skipped = 5, .spike = 2});
  // Nine losses say too little, of whatever size the tenth is.
  for (std::int64_t step = 1; step <= 9; ++step) CHECK_FALSE(guard.look_at(report_of(step, 2.0), some));
  CHECK_FALSE(guard.look_at(report_of(10, 2.0), some));
  CHECK_FALSE(guard.look_at(report_of(11, 3.9), some));  // below twice the mean
  for (std::int64_t step = 12; step <= 40; ++step) CHECK_FALSE(guard.look_at(report_of(step, 2.0), some));
  const auto found = guard.look_at(report_of(41, 4.01), batch_of({17, 4, 203}));
  REQUIRE(found);
  CHECK((*found)["what"] == "spike");
  CHECK((*found)["usual_loss"] == Approx(2.0));
  CHECK((*found)["sequences"] == nlohmann::json({17, 4, 203}));

  train::NumericsGuard without({.most_skipped = 5, .spike = 0});
  for (std::int64_t step = 1; step <= 20; ++step) CHECK_FALSE(without.look_at(report_of(step, 2.0), some));
  CHECK_FALSE(without.look_at(report_of(21, 200.0), some));
}

TEST_CASE("Skipped steps in a row end the run", "[numerics]") {
  train::NumericsGuard guard({.most_skipped = 2, .spike = 2});
  const auto skip = [&](std::int64_t step) {
    const auto found = guard.look_at(report_of(step, nan), batch_of({5}));
    REQUIRE(found);
    CHECK((*found)["what"] == "skipped");
    CHECK((*found)["sequences"] == nlohmann::json({5}));
  };
  skip(1);
  skip(2);
  CHECK_FALSE(guard.look_at(report_of(3, 1.0), some));  // a good one begins the count again
  skip(4);
  skip(5);
  try {
    guard.look_at(report_of(6, nan), batch_of({8, 9}));
    FAIL("no error");
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::numerics);
    const std::string text = error.what();
    CHECK(text.find("step 6: loss ") == 0);
    CHECK(text.find("sequences 8, 9") != std::string::npos);
    CHECK(text.find("train.max_skipped = 2") != std::string::npos);
  }
  train::NumericsGuard strict({.most_skipped = 0, .spike = 2});
  CHECK_THROWS_AS(strict.look_at(report_of(1, nan), some), core::Error);
}

}  // namespace caravan::tests
