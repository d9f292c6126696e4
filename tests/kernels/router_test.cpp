// SPDX-License-Identifier: Apache-2.0
#include "kernels/router.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "core/error.hpp"
#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

namespace {

struct Routing {
  RouterShape shape;
  std::int64_t sequences = 3;
  std::vector<float> logits;
  std::vector<std::int32_t> sequence;  // interleaved, with pads
  std::vector<std::int32_t> indices;
  std::vector<float> weights;
};

Routing routing(std::int64_t tokens, std::int64_t experts, std::int64_t topk) {
  Routing r;
  r.shape = {tokens, experts, topk};
  r.logits = random_values<float>(static_cast<std::uint64_t>(7 + experts), tokens * experts, 3);
  for (std::int64_t t = 0; t < tokens; ++t) r.sequence.push_back(t % 5 == 4 ? -1 : static_cast<std::int32_t>(t % 3));
  r.indices.resize(static_cast<std::size_t>(tokens * topk), 99);
  r.weights.resize(r.indices.size(), 99.0F);
  route(Execution{}, r.logits.data(), r.sequence.data(), r.shape, r.indices.data(), r.weights.data());
  return r;
}

std::vector<double> row_of(const Routing& r, std::size_t token) {
  const auto experts = static_cast<std::ptrdiff_t>(r.shape.experts);
  const auto begin = r.logits.begin() + static_cast<std::ptrdiff_t>(token) * experts;
  return widen(std::vector<float>(begin, begin + experts));
}

std::vector<double> softmax(const std::vector<double>& logits) {
  std::vector<double> p;
  for (const double logit : logits) p.push_back(std::exp(logit));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

const std::vector<RouterShape> shapes{{1, 1, 1}, {20, 2, 2}, {33, 8, 2}, {21, 16, 4}, {17, 67, 3}};

}  // namespace

TEST_CASE("route takes the largest logits, ties to the lower expert, and their softmax") {
  for (const RouterShape& shape : shapes) {
    Routing r = routing(shape.tokens, shape.experts, shape.topk);
    const auto topk = static_cast<std::size_t>(shape.topk);
    for (std::size_t t = 0; t < r.sequence.size(); ++t) {
      if (r.sequence[t] < 0) {
        for (std::size_t j = t * topk; j < (t + 1) * topk; ++j) CHECK((r.indices[j] == -1 && r.weights[j] == 0));
        continue;
      }
      const auto logits = row_of(r, t);
      std::vector<std::int32_t> order(logits.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
        return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
      });
      std::vector<double> chosen;
      for (std::size_t j = 0; j < topk; ++j) {
        CHECK(r.indices[t * topk + j] == order[j]);
        chosen.push_back(logits[static_cast<std::size_t>(order[j])]);
      }
      const auto expected = softmax(chosen);
      for (std::size_t j = 0; j < topk; ++j) CHECK(r.weights[t * topk + j] == Approx(expected[j]).epsilon(1e-6));
    }
  }
}

TEST_CASE("route breaks ties by index, takes both zeros as one, survives NaN and infinity") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> logits{1,   1,         1,   1,    -0.0F,    0.0F, -1,        0.0F,
                                  nan, -infinity, nan, -nan, infinity, 2,    -infinity, 2};
  const std::vector<std::int32_t> sequence(4, 0);
  std::vector<std::int32_t> indices(12);
  std::vector<float> weights(12);
  route(Execution{}, logits.data(), sequence.data(), {4, 4, 3}, indices.data(), weights.data());
  CHECK(std::vector<std::int32_t>(indices.begin(), indices.begin() + 6) == std::vector<std::int32_t>{0, 1, 2, 0, 1, 3});
  for (std::ptrdiff_t t = 0; t < 4; ++t) {
    const std::set<std::int32_t> different(indices.begin() + 3 * t, indices.begin() + 3 * t + 3);
    CHECK(different.size() == 3);
    CHECK(*different.begin() >= 0);
    CHECK(*different.rbegin() < 4);
  }
  CHECK(weights[0] == Approx(1.0 / 3));
  CHECK(std::isnan(weights[6]));  // a NaN logit is not hidden
}

TEST_CASE("routing_statistics counts assignments and sums probabilities per sequence") {
  for (const RouterShape& shape : shapes) {
    const Routing r = routing(shape.tokens, shape.experts, shape.topk);
    const auto experts = static_cast<std::size_t>(shape.experts);
    const auto size = static_cast<std::size_t>(r.sequences) * experts;
    std::vector<double> counts(size, 99);
    std::vector<double> probabilities(size, 99);
    routing_statistics(Execution{}, r.logits.data(), r.indices.data(), r.sequence.data(), r.shape, r.sequences,
                       counts.data(), probabilities.data());
    std::vector<double> expected_counts(size, 0);
    std::vector<double> expected_probabilities(size, 0);
    for (std::size_t t = 0; t < r.sequence.size(); ++t) {
      if (r.sequence[t] < 0) continue;
      const std::size_t row = static_cast<std::size_t>(r.sequence[t]) * experts;
      const auto p = softmax(row_of(r, t));
      for (std::size_t e = 0; e < experts; ++e) expected_probabilities[row + e] += p[e];
      for (std::int64_t j = 0; j < shape.topk; ++j) {
        const auto flat = t * static_cast<std::size_t>(shape.topk) + static_cast<std::size_t>(j);
        expected_counts[row + static_cast<std::size_t>(r.indices[flat])] += 1;
      }
    }
    CHECK(counts == expected_counts);
    for (std::size_t i = 0; i < size; ++i) {
      CHECK(probabilities[i] == Approx(expected_probabilities[i]).epsilon(1e-6));  // fp32 probabilities, fp64 sums
    }
  }
}

TEST_CASE("route_backward agrees with finite differences of the task and the balance loss") {
  const double scale = 0.3;
  for (const RouterShape& shape : shapes) {
    const Routing r = routing(shape.tokens, shape.experts, shape.topk);
    const auto experts = static_cast<std::size_t>(shape.experts);
    const auto topk = static_cast<std::size_t>(shape.topk);
    const auto dweights = random_values<float>(5, shape.tokens * shape.topk, 2);
    const auto share_values = widen(random_values<float>(6, r.sequences * shape.experts, 1));
    // Loss of one token: sum_j dw_j w_j + scale * sum_e f_e p_e, the chosen experts and f held fixed.
    const auto loss = [&](std::size_t t, const std::vector<double>& logits, double balance) {
      std::vector<double> chosen;
      for (std::size_t j = 0; j < topk; ++j)
        chosen.push_back(logits[static_cast<std::size_t>(r.indices[t * topk + j])]);
      const auto w = softmax(chosen);
      const auto p = softmax(logits);
      double sum = 0;
      for (std::size_t j = 0; j < topk; ++j) sum += static_cast<double>(dweights[t * topk + j]) * w[j];
      const std::size_t row = static_cast<std::size_t>(r.sequence[t]) * experts;
      for (std::size_t e = 0; e < experts; ++e) sum += balance * share_values[row + e] * p[e];
      return sum;
    };
    for (const bool balanced : {false, true}) {
      std::vector<double> expected(r.logits.size(), 0.0);
      for (std::size_t t = 0; t < r.sequence.size(); ++t) {
        if (r.sequence[t] < 0) continue;
        auto logits = row_of(r, t);
        for (std::size_t e = 0; e < experts; ++e) {
          constexpr double h = 1e-5;
          const double keep = logits[e];
          logits[e] = keep + h;
          const double above = loss(t, logits, balanced ? scale : 0);
          logits[e] = keep - h;
          const double below = loss(t, logits, balanced ? scale : 0);
          logits[e] = keep;
          expected[t * experts + e] = (above - below) / (2 * h);
        }
      }
      std::vector<float> dlogits(r.logits.size(), 99.0F);
      const BalanceGradient balance{balanced ? share_values.data() : nullptr, scale};
      route_backward(Execution{}, r.logits.data(), r.indices.data(), r.weights.data(), dweights.data(),
                     r.sequence.data(), r.shape, balance, dlogits.data());
      check_close(dlogits, expected, 1e-6);  // differences of fp32 terms of at most 2
    }
  }
}

TEST_CASE("without gradients of the weights the router's task gradient is exactly zero") {
  const Routing r = routing(33, 8, 2);
  const std::vector<float> dweights(r.weights.size(), 0.0F);
  std::vector<float> dlogits(r.logits.size(), 99.0F);
  route_backward(Execution{}, r.logits.data(), r.indices.data(), r.weights.data(), dweights.data(), r.sequence.data(),
                 r.shape, BalanceGradient{}, dlogits.data());
  CHECK(dlogits == std::vector<float>(r.logits.size(), 0.0F));
}

TEST_CASE("a rank without tokens still has statistics, all zero") {
  std::vector<double> counts(8, 9.0);
  std::vector<double> probabilities(8, 9.0);
  const RouterShape shape{0, 4, 2};
  route(Execution{}, nullptr, nullptr, shape, nullptr, nullptr);
  routing_statistics(Execution{}, nullptr, nullptr, nullptr, shape, 2, counts.data(), probabilities.data());
  route_backward(Execution{}, nullptr, nullptr, nullptr, nullptr, nullptr, shape, BalanceGradient{}, nullptr);
  CHECK(counts == std::vector<double>(8, 0.0));
  CHECK(probabilities == std::vector<double>(8, 0.0));
  CHECK_THROWS_AS(route(Execution{}, nullptr, nullptr, {0, 4, 5}, nullptr, nullptr), caravan::core::Error);
}
