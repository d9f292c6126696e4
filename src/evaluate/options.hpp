// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::evaluate {

/// Section [evaluate].
struct Options {
  std::int64_t every = 0;
  std::int64_t samples = 256;
  std::int64_t answer_tokens = 256;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("every", every, core::whole(0, 1'000'000'000, "steps"),
          "interval between measurements of the held-out loss in training; 0: none");
    visit("samples", samples, core::whole(1, 1'000'000'000, "sequences"),
          "how many held-out sequences are scored at most");
    visit("answer_tokens", answer_tokens, core::whole(1, 1 << 24, "tokens"),
          "maximum length of the answer that evaluate generates");
  }
};

}  // namespace caravan::evaluate
