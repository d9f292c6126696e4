// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.hpp"

#include "core/error.hpp"
#include "tests/kernels/arrays.hpp"

using namespace caravan::kernels;
using namespace caravan::kernels::test;
namespace core = caravan::core;

namespace {

constexpr std::int64_t rows = 7;
constexpr std::int64_t columns = 203;  // not a multiple of any vector length

std::vector<double> naive(const std::vector<double>& in, const std::vector<std::uint64_t>& tokens, Dropout use) {
  std::vector<double> out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::uint64_t key = core::dropout_row_key(use.key, tokens[i / columns]);
    const std::uint32_t bits = core::dropout_bits(key, use.first_unit + static_cast<std::uint32_t>(i % columns));
    out.push_back(bits >= core::dropout_threshold(use.probability) ? in[i] / (1 - use.probability) : 0.0);
  }
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("dropout keeps what its hash says and scales it", "", float, Bf16) {
  const auto in = random_values<TestType>(1, rows * columns, 3);
  const auto tokens = random_tokens(rows);
  for (const Dropout use : {Dropout{11, 0.1, 0}, Dropout{12, 0.5, 1000}, Dropout{13, 0.999, 4294967290U}}) {
    const auto expected = naive(widen(in), tokens, use);
    std::vector<TestType> out(in.size());
    dropout(Execution{}, in.data(), out.data(), rows, columns, tokens.data(), use);
    check_close(out, expected, 0);
    auto in_place = in;
    dropout(Execution{}, in_place.data(), in_place.data(), rows, columns, tokens.data(), use);
    check_close(in_place, expected, 0);
  }
}

TEMPLATE_TEST_CASE("dropout_add adds the dropped values", "", float, Bf16) {
  const auto in = random_values<TestType>(1, rows * columns, 3);
  const auto start = random_values<TestType>(2, rows * columns, 3);
  const auto tokens = random_tokens(rows);
  for (const double probability : {0.0, 0.1}) {
    const Dropout use{11, probability, 5};
    auto expected = naive(widen(in), tokens, use);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += widen(start)[i];
    auto out = start;
    dropout_add(Execution{}, in.data(), out.data(), rows, columns, tokens.data(), use);
    check_close(out, expected, 1e-6);  // cancellation of two numbers below 4: two fp32 roundings
  }
}

TEMPLATE_TEST_CASE("dropout with probability 0 copies and reads no tokens", "", float, Bf16) {
  const auto in = random_values<TestType>(1, rows * columns, 3);
  std::vector<TestType> out(in.size());
  dropout(Execution{}, in.data(), out.data(), rows, columns, nullptr, Dropout{11, 0, 0});
  CHECK(widen(out) == widen(in));
}

TEST_CASE("a slice of the columns gets the slice of the mask") {
  const auto in = random_values<float>(1, rows * columns, 3);
  const auto tokens = random_tokens(rows);
  std::vector<float> whole(in.size());
  dropout(Execution{}, in.data(), whole.data(), rows, columns, tokens.data(), Dropout{11, 0.3, 0});
  constexpr std::int64_t begin = 50;
  constexpr std::int64_t width = 77;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<float> slice(width);
    const std::int64_t at = r * columns + begin;
    dropout(Execution{}, in.data() + at, slice.data(), 1, width, tokens.data() + r, Dropout{11, 0.3, begin});
    CHECK(slice == std::vector<float>(whole.begin() + at, whole.begin() + at + width));
  }
}

TEST_CASE("dropout of nothing does nothing, and an impossible probability is refused") {
  const std::uint64_t token = 1;
  float value = 5;
  dropout(Execution{}, &value, &value, 0, columns, &token, Dropout{1, 0.5, 0});
  dropout(Execution{}, &value, &value, 1, 0, &token, Dropout{1, 0.5, 0});
  dropout_add(Execution{}, &value, &value, 0, columns, &token, Dropout{1, 0, 0});
  CHECK(value == 5);
  CHECK_THROWS_AS(dropout(Execution{}, &value, &value, 1, 1, &token, Dropout{1, 1.0, 0}), core::Error);
}
