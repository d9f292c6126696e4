// SPDX-License-Identifier: Apache-2.0
#include "family/initial_values.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/random.hpp"

namespace caravan::family {
namespace {

// Elements index … index + count − 1: core::uniform(key, i) scaled to ±bound, with one Philox call for four of them.
void fill_run(std::uint64_t key, std::uint64_t index, std::int64_t count, float bound, float* out) {
  while (count > 0) {
    const auto words = core::philox(key, index >> 2);
    for (std::uint64_t lane = index & 3U; lane < 4 && count > 0; ++lane, ++index, --count) {
      const float uniform = static_cast<float>(words[lane] >> 8) * (1.0F / 16777216.0F);
      *out++ = (2.0F * uniform - 1.0F) * bound;
    }
  }
}

}  // namespace

void fill_initial(const layout::ParameterSpec& parameter, std::uint64_t seed, const layout::Rectangle& part,
                  float* out) {
  const layout::Shape& shape = parameter.shape;
  CARAVAN_CHECK(!shape.empty() && part.extent.size() == shape.size(), parameter.name);
  CARAVAN_CHECK(parameter.init != layout::Init::none, parameter.name);
  if (parameter.init == layout::Init::zeros) {
    std::fill_n(out, part.count(), 0.0F);
    return;
  }
  if (part.count() == 0) return;
  const std::uint64_t name = core::hash_name(parameter.name.data(), parameter.name.size());
  const std::uint64_t key = core::random_key(seed, core::RandomUse::init, 0, name);
  const auto bound = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.back())));
  const std::size_t last = shape.size() - 1;
  const std::int64_t run = part.extent[last];
  layout::Shape at(shape.size(), 0);  // inside the part
  while (true) {
    std::int64_t index = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) index = index * shape[d] + part.offset[d] + at[d];
    fill_run(key, static_cast<std::uint64_t>(index), run, bound, out);
    out += run;
    std::size_t d = last;
    while (d > 0 && ++at[d - 1] == part.extent[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace caravan::family
