// SPDX-License-Identifier: Apache-2.0
#include "kernels/expert_activation.hpp"

#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

namespace {
double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
}  // namespace

TEMPLATE_TEST_CASE("weighted_gelu and its gradients agree with double arithmetic", "", float, Bf16) {
  constexpr std::int64_t rows = 5;
  constexpr double s = 0.25;
  for (const std::int64_t columns : {1, 15, 64, 141}) {
    const auto a = random_values<TestType>(1, rows * columns, 6);
    const auto g = random_values<TestType>(2, rows * columns, 2);
    const auto w = random_values<float>(3, rows, 1);
    std::vector<TestType> z(a.size());
    weighted_gelu(Execution{}, a.data(), w.data(), s, z.data(), rows, columns);

    std::vector<double> expected_z(a.size());
    std::vector<double> expected_da(a.size());
    std::vector<double> expected_dw(rows);
    for (std::size_t i = 0; i < a.size(); ++i) {
      constexpr double h = 1e-5;
      const std::size_t row = i / static_cast<std::size_t>(columns);
      const double x = widen(a)[i];
      const double weight = s * widen(w)[row];
      expected_z[i] = weight * gelu(x);
      expected_da[i] = weight * widen(g)[i] * (gelu(x + h) - gelu(x - h)) / (2 * h);
      expected_dw[row] += s * widen(g)[i] * gelu(x);
    }
    // The distribution's error of 1e-7 times |x| <= 6 times s.
    check_close(z, expected_z, 2e-7);

    std::vector<TestType> da(a.size());
    std::vector<TestType> again(a.size());
    std::vector<float> dw(rows);
    weighted_gelu_backward(Execution{}, g.data(), a.data(), w.data(), s, da.data(), again.data(), dw.data(), rows,
                           columns);
    check_close(da, expected_da, 2e-7);
    CHECK(widen(again) == widen(z));
    // fp32 sums of up to 141 terms of at most 3.
    check_close(dw, expected_dw, 2e-5);

    auto g_in_place = g;
    auto a_in_place = a;
    std::vector<float> dw_in_place(rows);
    weighted_gelu_backward(Execution{}, g_in_place.data(), a_in_place.data(), w.data(), s, g_in_place.data(),
                           a_in_place.data(), dw_in_place.data(), rows, columns);
    CHECK(widen(g_in_place) == widen(da));
    CHECK(widen(a_in_place) == widen(z));
    CHECK(dw_in_place == dw);
  }
}

TEST_CASE("an expert without tokens costs nothing") {
  float value = 3;
  weighted_gelu(Execution{}, &value, &value, 1.0, &value, 0, 8);
  weighted_gelu_backward(Execution{}, &value, &value, &value, 1.0, &value, &value, &value, 0, 8);
  CHECK(value == 3);
}
