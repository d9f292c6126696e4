// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.hpp"

#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;

namespace {
double silu(double x) { return x / (1 + std::exp(-x)); }
}  // namespace

TEMPLATE_TEST_CASE("swiglu and its gradients agree with double arithmetic", "", float, Bf16) {
  for (const std::int64_t count : {1, 63, 4096, 9001}) {  // below, at and above one block
    const auto gate = random_values<TestType>(1, count, 12);
    const auto up = random_values<TestType>(2, count, 2);
    const auto dout = random_values<TestType>(3, count, 2);
    std::vector<TestType> out(gate.size());
    std::vector<TestType> dgate(gate.size());
    std::vector<TestType> dup(gate.size());
    swiglu(Execution{}, gate.data(), up.data(), out.data(), count);
    swiglu_backward(Execution{}, dout.data(), gate.data(), up.data(), dgate.data(), dup.data(), count);
    const auto g = widen(gate);
    const auto u = widen(up);
    const auto d = widen(dout);
    std::vector<double> expected(g.size());
    std::vector<double> expected_dgate(g.size());
    std::vector<double> expected_dup(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      constexpr double h = 1e-5;
      expected[i] = silu(g[i]) * u[i];
      expected_dgate[i] = d[i] * u[i] * (silu(g[i] + h) - silu(g[i] - h)) / (2 * h);
      expected_dup[i] = d[i] * silu(g[i]);
    }
    check_close(out, expected, 1e-7);
    check_close(dgate, expected_dgate, 2e-6);  // silu' loses digits near its zero at -1.28; factors up to 4
    check_close(dup, expected_dup, 1e-7);
    // In place, as backward passes that run out of memory want it.
    auto low = gate;
    auto high = up;
    swiglu_backward(Execution{}, dout.data(), low.data(), high.data(), low.data(), high.data(), count);
    CHECK(widen(low) == widen(dgate));
    CHECK(widen(high) == widen(dup));
  }
}

TEST_CASE("swiglu stays finite for gates far out, and does nothing for no elements") {
  const std::vector<float> gate{-1e4F, -100.0F, 100.0F, 1e4F};
  const std::vector<float> up(4, 1.0F);
  std::vector<float> out(4, 9.0F);
  swiglu(Execution{}, gate.data(), up.data(), out.data(), 0);
  CHECK(out == std::vector<float>(4, 9.0F));
  swiglu(Execution{}, gate.data(), up.data(), out.data(), 4);
  check_close(out, {0, 0, 100, 1e4}, 1e-30);
  std::vector<float> dup(4);
  swiglu_backward(Execution{}, up.data(), gate.data(), up.data(), out.data(), dup.data(), 4);
  check_close(out, {0, 0, 1, 1}, 1e-30);
}
