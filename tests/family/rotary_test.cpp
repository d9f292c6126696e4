// SPDX-License-Identifier: Apache-2.0
#include "family/rotary.hpp"

#include <cmath>
#include <cstring>

#include "family/model_spec.hpp"
#include "io/safetensors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"

using namespace caravan;

TEST_CASE("scaled rotary frequencies are the reference's") {
  int models = 0;
  for (const auto& folder : tests::folders_in(tests::more_fixtures() / "families")) {
    const io::SafetensorsFile file(folder / "expected_logits.safetensors");
    if (!file.contains("inv_freq")) continue;
    const family::ModelSpec spec = family::read_model_spec(folder.string());
    const std::int64_t length = file.info("input_ids").shape[1];
    const auto got = family::inverse_frequencies(spec.rotary, spec.head_dim, spec.max_positions, length);
    std::vector<float> wanted(got.size());
    REQUIRE(file.info("inv_freq").shape == layout::Shape{static_cast<std::int64_t>(got.size())});
    std::memcpy(wanted.data(), file.data("inv_freq"), wanted.size() * sizeof(float));
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO(folder.filename().string() << " " << i);
      CHECK(std::abs(got[i] - wanted[i]) <= 2e-7 * wanted[i]);  // powf of two libraries
    }
    ++models;
  }
  CHECK(models >= 3);
}

TEST_CASE("dynamic scaling starts where the positions end") {
  family::Rotary rotary{10000, family::RotaryScaling{family::RotaryScaling::Kind::dynamic, 2.0}};
  const auto at = [&](std::int64_t length) { return family::inverse_frequencies(rotary, 16, 24, length); };
  CHECK(at(24) == family::inverse_frequencies({10000}, 16, 24, 24));
  CHECK(at(25) != at(24));
  // base' = base · (f S / M − (f − 1))^(d / (d − 2)) at S = 2 M and f = 2: 3^(16/14).
  const double base = 10000 * std::pow(3.0, 16.0 / 14.0);
  CHECK(std::abs(at(48)[7] - std::pow(base, -14.0 / 16.0)) < 1e-9);
}
