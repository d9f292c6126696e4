// SPDX-License-Identifier: Apache-2.0
#include "parallel/device_tensors.hpp"

#include "core/error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::parallel {

TEST_CASE("a tensor that is not in host memory has no place in this build") {
  CHECK(place_of(at::empty({3})).kind == device::Kind::host);
  std::string refusal;
  try {
    place_of(at::empty({3}, at::kMeta));
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::internal);
    refusal = error.what();
  }
  CAPTURE(refusal);
  CHECK(refusal.find("computes on the host alone, and a tensor is on meta") != std::string::npos);
}

}  // namespace caravan::parallel
