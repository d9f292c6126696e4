// SPDX-License-Identifier: Apache-2.0
// 32 ranks: far more than the other tests have, and than this machine has cores.
#include "tests/layouts/curves.hpp"

namespace caravan::tests {
namespace {

void compare_at(int tp, int ep, const family::ModelSpec& spec) {
  start_kernels();
  REQUIRE(comm::make_world(600)->size() == 32);
  const RandomTensors tensors(spec);
  const SyntheticData synthetic(spec.vocabulary);
  const Training training{spec, tensors, synthetic.file()};
  const Curve alone = train_alone(training);
  CHECK(alone.routing_gap > safe_routing_gap);
  const OnGrid on(tp, ep);
  compare(train_on(on.context, training, 1), alone);
}

}  // namespace

TEST_CASE("TP 4 × DP 8 with EP 8 gives the curve of one rank", "[scale]") { compare_at(4, 8, random_model_spec()); }

TEST_CASE("32 experts on 32 ranks give the curve of one rank", "[scale]") {
  family::ModelSpec spec = random_model_spec();
  spec.pesc->experts = 32;
  compare_at(4, 32, spec);
}

}  // namespace caravan::tests
