// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.hpp"

#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

namespace {

constexpr double eps = 1e-5;

std::vector<double> naive(const std::vector<double>& x, const std::vector<double>& weight) {
  const std::size_t columns = weight.size();
  std::vector<double> y(x.size());
  for (std::size_t begin = 0; begin < x.size(); begin += columns) {
    double squares = 0;
    for (std::size_t c = 0; c < columns; ++c) squares += x[begin + c] * x[begin + c];
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(columns) + eps);
    for (std::size_t c = 0; c < columns; ++c) y[begin + c] = x[begin + c] * rstd * weight[c];
  }
  return y;
}

double loss(const std::vector<double>& x, const std::vector<double>& weight, const std::vector<double>& dy) {
  const auto y = naive(x, weight);
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
  return sum;
}

}  // namespace

TEMPLATE_TEST_CASE("rms_norm and its gradient agree with double arithmetic", "", float, Bf16) {
  constexpr std::int64_t rows = 5;
  for (const std::int64_t columns : {1, 16, 37, 130}) {
    const auto x = random_values<TestType>(1, rows * columns, 2);
    const auto dy = random_values<TestType>(2, rows * columns, 1);
    const auto weight = random_values<float>(3, columns, 1.5);
    std::vector<TestType> y(x.size());
    std::vector<float> rstd(rows);
    rms_norm(Execution{}, x.data(), weight.data(), y.data(), rstd.data(), rows, columns, eps);
    check_close(y, naive(widen(x), widen(weight)), 1e-7);
    auto in_place = x;
    rms_norm(Execution{}, in_place.data(), weight.data(), in_place.data(), rstd.data(), rows, columns, eps);
    CHECK(widen(in_place) == widen(y));

    std::vector<TestType> dx(x.size());
    rms_norm_backward(Execution{}, dy.data(), x.data(), weight.data(), rstd.data(), dx.data(), rows, columns);
    std::vector<double> expected(x.size());
    auto moved = widen(x);
    for (std::size_t i = 0; i < moved.size(); ++i) {
      constexpr double h = 1e-5;
      const double keep = moved[i];
      moved[i] = keep + h;
      const double above = loss(moved, widen(weight), widen(dy));
      moved[i] = keep - h;
      const double below = loss(moved, widen(weight), widen(dy));
      moved[i] = keep;
      expected[i] = (above - below) / (2 * h);
    }
    // Two terms of size up to 3 (single columns: 1e2) cancel in fp32.
    check_close(dx, expected, columns == 1 ? 1e-4 : 2e-6);
    auto gradient = dy;
    rms_norm_backward(Execution{}, gradient.data(), x.data(), weight.data(), rstd.data(), gradient.data(), rows,
                      columns);
    CHECK(widen(gradient) == widen(dx));
  }
}

TEST_CASE("rms_norm of a zero row is zero, and of no rows nothing") {
  const std::vector<float> x(8, 0.0F);
  const std::vector<float> weight(8, 2.0F);
  std::vector<float> y(8, 1.0F);
  float rstd = 7;
  rms_norm(Execution{}, x.data(), weight.data(), y.data(), &rstd, 0, 8, eps);
  rms_norm_backward(Execution{}, x.data(), x.data(), weight.data(), &rstd, y.data(), 0, 8);
  CHECK(rstd == 7);
  CHECK(y == std::vector<float>(8, 1.0F));
  rms_norm(Execution{}, x.data(), weight.data(), y.data(), &rstd, 1, 8, eps);
  CHECK(y == x);
  CHECK(rstd == Approx(1 / std::sqrt(eps)).epsilon(1e-6));
}
