// SPDX-License-Identifier: Apache-2.0
// Philox against published vectors; the dropout hash against what an ideal generator would do. The draws are fixed, so
// a statistic either passes always or never; bounds are 5 standard deviations where one number is tested and 6 where
// the worst of hundreds is.
#include "core/random.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "tests/support/catch.hpp"

using namespace caravan::core;

namespace {

/// Correlation of two equally long runs of "kept" with keep rate 1 - p, in standard deviations of independent ones.
class Agreement {
 public:
  explicit Agreement(double probability) : probability_(probability) {}
  void add(bool a, bool b) {
    sum_ += (static_cast<double>(a) - (1 - probability_)) * (static_cast<double>(b) - (1 - probability_));
    ++count_;
  }
  double deviations() const {
    return sum_ / (probability_ * (1 - probability_)) / std::sqrt(static_cast<double>(count_));
  }

 private:
  double probability_;
  double sum_ = 0;
  std::uint64_t count_ = 0;
};

bool kept(std::uint64_t key, std::uint64_t token, std::uint32_t unit, double probability) {
  return dropout_bits(dropout_row_key(key, token), unit) >= dropout_threshold(probability);
}

constexpr std::uint32_t units = 1024;
constexpr std::uint32_t tokens = 1024;

std::uint64_t token_at(std::uint32_t position) { return token_identity(12, position); }
std::uint64_t key_of(std::uint64_t expert) { return random_key(42, RandomUse::expert_dropout, 3, expert); }

}  // namespace

TEST_CASE("philox gives the published words of Random123's known-answer tests") {
  using Words = std::array<std::uint32_t, 4>;
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  CHECK(philox(0, 0, 0) == Words{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U});
  CHECK(philox(ones, ones, ones) == Words{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU});
}

TEST_CASE("uniform values fill [0, 1) evenly") {
  constexpr int count = 200000;
  std::vector<int> bins(100, 0);
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    const float value = uniform(99, static_cast<std::uint64_t>(i));
    REQUIRE((value >= 0 && value < 1));
    ++bins[static_cast<std::size_t>(value * 100)];
    sum += static_cast<double>(value);
  }
  CHECK(std::fabs(sum / count - 0.5) < 5 * std::sqrt(1.0 / 12 / count));
  double chi_squared = 0;
  for (const int bin : bins) chi_squared += std::pow(bin - count / 100.0, 2) / (count / 100.0);
  CHECK(std::fabs(chi_squared - 99) < 5 * std::sqrt(2.0 * 99));
}

TEST_CASE("keys and identities of neighbours differ in about half of their bits") {
  std::set<std::uint64_t> different;
  double flipped = 0;
  for (std::uint32_t i = 0; i < 4096; ++i) {
    different.insert(token_identity(i, 7));
    different.insert(token_identity(7, i + 8192));
    different.insert(key_of(i));
    flipped += std::popcount(token_identity(5, i) ^ token_identity(5, i + 1));
    flipped += std::popcount(key_of(i) ^ key_of(i + 1));
  }
  CHECK(different.size() == std::size_t{3} * 4096);
  CHECK(std::fabs(flipped / 8192 - 32) < 5 * 4 / std::sqrt(8192.0));
}

TEST_CASE("the share of kept units is 1 - p, in total and in every row and column") {
  for (const double p : {0.01, 0.1, 0.5, 0.9}) {
    std::vector<double> row(tokens, 0);
    std::vector<double> column(units, 0);
    double total = 0;
    for (std::uint32_t t = 0; t < tokens; ++t) {
      for (std::uint32_t u = 0; u < units; ++u) {
        const double keep = kept(key_of(0), token_at(t), u, p) ? 1 : 0;
        row[t] += keep;
        column[u] += keep;
        total += keep;
      }
    }
    const double variance = p * (1 - p);
    CHECK(std::fabs(total / (tokens * units) - (1 - p)) < 5 * std::sqrt(variance / (tokens * units)));
    // Rows and columns also have to spread as binomial counts do: neither too much nor too little.
    for (const auto& counts : {row, column}) {
      double spread = 0;
      double worst = 0;
      for (const double count : counts) {
        const double z = (count - 1024 * (1 - p)) / std::sqrt(1024 * variance);
        spread += z * z;
        worst = std::max(worst, std::fabs(z));
      }
      CHECK(std::fabs(spread - 1024) < 5 * std::sqrt((2 + 1 / (1024 * variance)) * 1024));
      CHECK(worst < (p == 0.01 ? 7 : 6));  // 10 expected drops have a longer tail than a normal law
    }
  }
}

TEST_CASE("masks of neighbouring units, tokens, keys and layers are uncorrelated") {
  for (const double p : {0.1, 0.5}) {
    for (const std::uint32_t distance : {1U, 2U, 3U, 4U, 8U, 16U, 32U, 64U, 128U, 256U, 512U}) {
      Agreement of_units(p);
      Agreement of_tokens(p);
      Agreement of_keys(p);
      for (std::uint32_t t = 0; t < 512; ++t) {
        for (std::uint32_t u = 0; u < 512; ++u) {
          const bool here = kept(key_of(0), token_at(t), u, p);
          of_units.add(here, kept(key_of(0), token_at(t), u + distance, p));
          of_tokens.add(here, kept(key_of(0), token_at(t + distance), u, p));
          of_keys.add(here, kept(key_of(distance), token_at(t), u, p));
        }
      }
      INFO("p " << p << ", distance " << distance);
      CHECK(std::fabs(of_units.deviations()) < 5);
      CHECK(std::fabs(of_tokens.deviations()) < 5);
      CHECK(std::fabs(of_keys.deviations()) < 5);
    }
  }
}

TEST_CASE("each bit of the hash is balanced and independent of the others") {
  std::array<double, 32> ones{};
  std::array<std::array<double, 32>, 32> both{};
  constexpr int count = 1 << 18;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t bits = dropout_bits(dropout_row_key(key_of(1), token_at(i / 512)), i % 512);
    for (std::size_t a = 0; a < 32; ++a) {
      if ((bits >> a & 1U) == 0) continue;
      ones[a] += 1;
      for (std::size_t b = 0; b < a; ++b) both[a][b] += bits >> b & 1U;
    }
  }
  for (std::size_t a = 0; a < 32; ++a) {
    INFO("bit " << a);
    CHECK(std::fabs(ones[a] - count / 2.0) < 5 * std::sqrt(count / 4.0));
    for (std::size_t b = 0; b < a; ++b) CHECK(std::fabs(both[a][b] - count / 4.0) < 6 * std::sqrt(count * 3.0 / 16));
  }
}

TEST_CASE("a changed bit of key, token or unit flips each bit of the hash half of the time") {
  constexpr int trials = 4096;
  for (unsigned input = 0; input < 64 + 64 + 16; ++input) {
    std::array<int, 32> flips{};
    for (std::uint32_t i = 0; i < trials; ++i) {
      std::uint64_t key = key_of(i);
      std::uint64_t token = token_at(i);
      std::uint32_t unit = i * 7 % 65536;
      const std::uint32_t bits = dropout_bits(dropout_row_key(key, token), unit);
      if (input < 64) {
        key ^= std::uint64_t{1} << input;
      } else if (input < 128) {
        token ^= std::uint64_t{1} << (input - 64);
      } else {
        unit ^= 1U << (input - 128);
      }
      const std::uint32_t difference = bits ^ dropout_bits(dropout_row_key(key, token), unit);
      for (unsigned bit = 0; bit < 32; ++bit) flips[bit] += static_cast<int>(difference >> bit & 1U);
    }
    INFO("input bit " << input);
    for (const int flip : flips) CHECK(std::fabs(flip - trials / 2.0) < 6 * std::sqrt(trials / 4.0));
  }
}

TEST_CASE("rows whose keys agree in one half have unrelated masks, also one unit apart") {
  // A row key has 64 bits but the hash works on 32: among a million tokens many pairs share half of their keys.
  constexpr std::uint32_t pairs = 512;
  for (const int shift : {0, 32}) {
    for (const std::uint32_t offset : {0U, 1U}) {
      for (const double p : {0.1, 0.5}) {
        double sum = 0;
        double squares = 0;
        for (std::uint32_t i = 0; i < pairs; ++i) {
          const std::uint64_t key = mix64(i);
          const std::uint64_t other = key ^ ((mix64(i + 1000000) & 0xffffffffULL) << shift);
          const std::uint32_t threshold = dropout_threshold(p);
          Agreement agreement(p);
          for (std::uint32_t u = 0; u < units; ++u) {
            agreement.add(dropout_bits(key, u) >= threshold, dropout_bits(other, u + offset) >= threshold);
          }
          sum += agreement.deviations();
          squares += agreement.deviations() * agreement.deviations();
        }
        INFO("half " << shift << ", offset " << offset << ", p " << p);
        CHECK(std::fabs(sum) < 5 * std::sqrt(pairs));
        CHECK(std::fabs(squares - pairs) < 5 * std::sqrt(2.0 * pairs));
      }
    }
  }
}
