// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::evaluate {

/// Section [evaluate].
struct Options {
  std::int64_t every = 0;
  std::int64_t samples = 256;
  std::int64_t answer_tokens = 256;
  std::string step = "newest";

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("every", every, core::whole(0, 1'000'000'000, "steps"),
          "evaluate in training once in so many steps; 0: never");
    visit("samples", samples, core::whole(1, 1'000'000'000), "samples that are scored at most");
    visit("answer_tokens", answer_tokens, core::whole(1, 1 << 24, "tokens"), "longest answer that is generated");
    visit("step", step, core::text(), "checkpoint to evaluate or export: newest, or a step such as 0 or 120");
  }
};

}  // namespace caravan::evaluate
