// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"

namespace caravan::checkpoint {

/// Section [checkpoint].
struct Options {
  std::int64_t every = 200;
  std::int64_t keep = 2;
  std::string resume = "auto";

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("every", every, core::whole(0, 1'000'000'000, "steps"),
          "save after every so many optimizer steps; 0: only at the end and when stopped");
    visit("keep", keep, core::whole(1, 1'000'000), "newest checkpoints that stay, besides step 0");
    visit("resume", resume, core::path(),
          "auto: from the newest good checkpoint of the run folder; never: refuse a run folder that has one; or a "
          "checkpoint's folder");
  }
};

}  // namespace caravan::checkpoint
