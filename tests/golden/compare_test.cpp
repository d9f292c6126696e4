// SPDX-License-Identifier: Apache-2.0
// Comparison of logits at every layout: differences that were put in by hand come out as numbers, at their place.
#include "evaluate/compare.hpp"

#include <cmath>

#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

// More texts than data-parallel ranks, and one that takes more than one portion of rows.
evaluate::TokenTexts texts() {
  evaluate::TokenTexts result;
  for (const std::size_t length : {std::size_t{3}, std::size_t{150}, std::size_t{1}, std::size_t{7}, std::size_t{12}}) {
    std::vector<std::int32_t>& text = result.emplace_back();
    for (std::size_t t = 0; t < length; ++t) {
      text.push_back(static_cast<std::int32_t>(core::mix64(length * 1000 + t) %
                                               static_cast<std::uint64_t>(small_spec().vocabulary)));
    }
  }
  return result;
}

/// The logits of all texts from a world of one, [tokens, V] each.
std::vector<at::Tensor> logits_alone() {
  const Alone one;
  const RandomModel model(one.context, small_spec());
  std::vector<at::Tensor> logits;
  for (const auto& text : texts()) {
    std::vector<at::Tensor> parts;
    std::int64_t next = 0;
    evaluate::run_texts(one.context, *model.decoder, {text},
                        [&](std::size_t, std::int64_t first, const at::Tensor& part) {
                          CHECK(first == next);
                          next += part.size(0);
                          parts.push_back(part.clone());
                        });
    CHECK(next == static_cast<std::int64_t>(text.size()));
    logits.push_back(at::cat(parts));
  }
  return logits;
}

template <typename Work>
void at_every_layout(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    const RandomModel model(grid.context, small_spec());
    const auto compare = [&](const std::vector<at::Tensor>& reference) {
      return evaluate::compare_logits(grid.context, *model.decoder, texts(),
                                      [&](std::size_t text, std::int64_t first, std::int64_t rows) {
                                        return reference[text].narrow(0, first, rows);
                                      });
    };
    work(compare);
  }
}

}  // namespace

TEST_CASE("a model is the same as itself at another layout") {
  start_kernels();
  const std::vector<at::Tensor> reference = logits_alone();
  const at::Tensor all = at::cat(reference).to(at::kDouble);
  at_every_layout([&](const auto& compare) {
    const evaluate::LogitDifference difference = compare(reference);
    CHECK(difference.positions == all.size(0));
    CHECK(difference.agreement() == 1);
    CHECK(difference.deviation == Approx(all.std(false).template item<double>()).epsilon(1e-9));
    CHECK(evaluate::within(difference, evaluate::same_weights(difference, small_spec().layers)));
  });
}

TEST_CASE("differences come out with their size and place") {
  start_kernels();
  const std::vector<at::Tensor> same = logits_alone();
  std::vector<at::Tensor> reference;
  for (const at::Tensor& logits : same) reference.push_back(logits.clone());
  // The most likely token of text 3, position 5 falls by 100, and of text 1, position 140 rises by 1.
  const std::int64_t token = same[3][5].argmax().item<std::int64_t>();
  reference[3][5][token] -= 100;
  reference[1][140][same[1][140].argmax()] += 1;
  const double values = static_cast<double>(at::cat(same).numel());
  at_every_layout([&](const auto& compare) {
    const evaluate::LogitDifference difference = compare(reference);
    // Layouts differ by some 1e-6 of logits of order one; 100 in fp32 is exact to 8e-6.
    CHECK(difference.largest == Approx(100).epsilon(1e-6));
    CHECK(difference.text == 3);
    CHECK(difference.position == 5);
    CHECK(difference.token == token);
    CHECK(difference.mean == Approx(101 / values).epsilon(1e-3));
    CHECK(difference.rms == Approx(std::sqrt(10001 / values)).epsilon(1e-3));
    CHECK(difference.agreeing == difference.positions - 1);
    CHECK_FALSE(evaluate::within(difference, evaluate::same_weights(difference, small_spec().layers)));
    CHECK_FALSE(evaluate::within(difference, evaluate::rounded_weights(difference)));
    CHECK(evaluate::within(difference, {101, 0}));
    CHECK_FALSE(evaluate::within(difference, {101, difference.rms / 2}));
    CHECK(difference.describe().find("text 3, position 5, token " + std::to_string(token)) != std::string::npos);
  });
}

TEST_CASE("a value that is no number is never within a tolerance") {
  start_kernels();
  std::vector<at::Tensor> reference = logits_alone();
  reference[4][2][1] = NAN;
  reference[4][2][2] = INFINITY;
  at_every_layout([&](const auto& compare) {
    const evaluate::LogitDifference difference = compare(reference);
    CHECK(difference.reference_not_finite == 2);
    CHECK(difference.not_finite == 0);
    CHECK(difference.largest < 1e-3);
    CHECK_FALSE(evaluate::within(difference, {1e9, 0}));
  });
}

TEST_CASE("tolerances follow the logits' deviation and the depth") {
  evaluate::LogitDifference difference;
  difference.deviation = 0.5;
  CHECK(evaluate::same_weights(difference, 1).largest == Approx(5e-5));
  difference.deviation = 2.4;
  CHECK(evaluate::same_weights(difference, 2).largest == Approx(1e-4));
  CHECK(evaluate::same_weights(difference, 32).largest == Approx(4e-4));
  CHECK(evaluate::rounded_weights(difference).rms == Approx(0.072));
  CHECK(evaluate::rounded_weights(difference).largest == Approx(2.4));
}

}  // namespace caravan::tests
