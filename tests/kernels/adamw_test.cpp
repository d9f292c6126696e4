// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw.hpp"

#include "core/error.hpp"
#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

TEST_CASE("five AdamW updates agree with double arithmetic") {
  constexpr std::int64_t count = 5003;  // more than one block, no multiple of a vector
  constexpr double gradient_scale = 0.37;
  AdamW settings{.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1};
  auto weight = random_values<float>(1, count, 1);
  std::vector<float> first(count, 0.0F);
  std::vector<float> second(count, 0.0F);
  auto weight_reference = widen(weight);
  std::vector<double> first_reference(count, 0.0);
  std::vector<double> second_reference(count, 0.0);
  for (settings.step = 1; settings.step <= 5; ++settings.step) {
    const auto gradient = random_values<float>(100 + static_cast<std::uint64_t>(settings.step), count, 0.01);
    adamw(Execution{}, weight.data(), first.data(), second.data(), gradient.data(), gradient_scale, settings, count);
    const auto step = static_cast<double>(settings.step);
    for (std::size_t i = 0; i < weight_reference.size(); ++i) {
      const double g = gradient_scale * static_cast<double>(gradient[i]);
      double& w = weight_reference[i];
      double& m = first_reference[i];
      double& v = second_reference[i];
      w -= settings.lr * settings.weight_decay * w;
      m = settings.beta1 * m + (1 - settings.beta1) * g;
      v = settings.beta2 * v + (1 - settings.beta2) * g * g;
      const double m_hat = m / (1 - std::pow(settings.beta1, step));
      const double v_hat = v / (1 - std::pow(settings.beta2, step));
      w -= settings.lr * m_hat / (std::sqrt(v_hat) + settings.eps);
    }
  }
  check_close(weight, weight_reference, 5e-7);  // five fp32 roundings of numbers below 1
  check_close(first, first_reference, 1e-9);    // sums of terms of 4e-3 that may cancel
  check_close(second, second_reference, 1e-13);
}

TEST_CASE("a rate of 0 moves the moments and leaves the weights") {
  const auto start = random_values<float>(1, 100, 1);
  const auto gradient = random_values<float>(2, 100, 1);
  auto weight = start;
  std::vector<float> first(100, 0.0F);
  std::vector<float> second(100, 0.0F);
  adamw(Execution{}, weight.data(), first.data(), second.data(), gradient.data(), 1, AdamW{}, 100);
  CHECK(weight == start);
  for (std::size_t i = 0; i < first.size(); ++i) CHECK(first[i] == Approx(0.1F * gradient[i]).epsilon(1e-6));
}

TEST_CASE("adamw of nothing does nothing, and step 0 is refused") {
  float value = 3;
  adamw(Execution{}, &value, &value, &value, &value, 1, AdamW{.lr = 1}, 0);
  CHECK(value == 3);
  CHECK_THROWS_AS(adamw(Execution{}, &value, &value, &value, &value, 1, AdamW{.step = 0}, 1), caravan::core::Error);
}

double sum_of_squares(const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<double> scratch(static_cast<std::size_t>(sum_of_squares_scratch(count)), -1);
  double sum = -1;
  sum_of_squares(Execution{}, values.data(), count, scratch.data(), &sum);
  return sum;
}

TEST_CASE("sum_of_squares is an fp64 sum") {
  for (const std::int64_t count : {0, 1, 15, 4096, 4097, 100003}) {
    const auto values = random_values<float>(1, count, 3);
    long double expected = 0;
    for (const float value : values) expected += static_cast<long double>(value) * static_cast<long double>(value);
    const double sum = sum_of_squares(values);
    CHECK(sum == Approx(static_cast<double>(expected)).epsilon(1e-13));
    CHECK(sum == sum_of_squares(values));
  }
  // Each square is lost beside the first in fp32.
  std::vector<float> values(10001, 1e-3F);
  values[0] = 100;
  CHECK(sum_of_squares(values) == Approx(10000.01).epsilon(1e-9));
}
