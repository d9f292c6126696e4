// SPDX-License-Identifier: Apache-2.0
#include "family/initial_values.hpp"

#include <algorithm>
#include <cmath>

#include "core/random.hpp"
#include "tests/support/catch.hpp"

using namespace caravan::layout;
using caravan::family::fill_initial;

namespace {

std::vector<float> values(const ParameterSpec& parameter, std::uint64_t seed, const Rectangle& part) {
  std::vector<float> out(static_cast<std::size_t>(part.count()), NAN);
  fill_initial(parameter, seed, part, out.data());
  return out;
}

const ParameterSpec down{
    .name = "x.adapter_down.weight", .shape = {4, 6, 35}, .trainable = true, .init = Init::kaiming_uniform};

}  // namespace

TEST_CASE("initial values are the counter-based uniform numbers of their element") {
  const auto all = values(down, 42, whole(down.shape));
  const std::uint64_t key = caravan::core::random_key(42, caravan::core::RandomUse::init, 0,
                                                      caravan::core::hash_name(down.name.data(), down.name.size()));
  const float bound = 1.0F / std::sqrt(35.0F);
  for (std::size_t i = 0; i < all.size(); ++i) {
    // The product and the bound are each rounded once in fp32.
    CHECK(all[i] == Approx((2.0F * caravan::core::uniform(key, i) - 1.0F) * bound).margin(1e-7));
  }
}

TEST_CASE("a part's initial values are those of the whole tensor, bit for bit") {
  const auto all = values(down, 42, whole(down.shape));
  for (const Rectangle& part :
       {Rectangle{{1, 0, 0}, {2, 6, 35}}, Rectangle{{0, 2, 0}, {4, 3, 35}}, Rectangle{{3, 1, 5}, {1, 4, 13}},
        Rectangle{{0, 0, 34}, {4, 6, 1}}, Rectangle{{2, 5, 1}, {1, 1, 2}}}) {
    std::vector<float> expected(static_cast<std::size_t>(part.count()));
    copy_part(part, whole(down.shape), all.data(), part, expected.data(), sizeof(float));
    CHECK(values(down, 42, part) == expected);
  }
}

TEST_CASE("initial values fill the interval evenly and depend on seed and name") {
  ParameterSpec large = down;
  large.shape = {100, 1000};
  const auto all = values(large, 1, whole(large.shape));
  const double bound = 1 / std::sqrt(1000.0);
  double sum = 0, squares = 0;
  for (const float value : all) {
    CHECK_FALSE(std::fabs(value) > bound);
    sum += value;
    squares += double{value} * value;
  }
  // 10^5 draws: the mean's standard deviation is bound/√(3·10^5); the variance's is about 0.3 %.
  CHECK(std::fabs(sum / 1e5) < 5 * bound / std::sqrt(3e5));
  CHECK(squares / 1e5 == Approx(bound * bound / 3).epsilon(0.015));
  ParameterSpec renamed = large;
  renamed.name += "x";
  CHECK(values(large, 2, whole(large.shape)) != all);
  CHECK(values(renamed, 1, whole(large.shape)) != all);
}

TEST_CASE("zero initial values are zero") {
  ParameterSpec up = down;
  up.init = Init::zeros;
  const auto all = values(up, 42, {{1, 0, 0}, {1, 6, 35}});
  CHECK(std::all_of(all.begin(), all.end(), [](float value) { return value == 0; }));
}
