// SPDX-License-Identifier: Apache-2.0
#include "run/run_folder.hpp"

#include "checkpoint/retention.hpp"

namespace caravan::run {
namespace {

/// "step-00000120", as the folder of that step's checkpoint is called.
std::string name_of(std::int64_t step) { return checkpoint::step_folder({}, step).string(); }

}  // namespace

std::filesystem::path RunFolder::evaluation(std::int64_t step) const {
  return path_ / ("evaluate-" + name_of(step) + ".json");
}

std::filesystem::path RunFolder::exported(std::int64_t step, bool merged) const {
  return path_ / ((merged ? "export-" : "adapter-") + name_of(step));
}

}  // namespace caravan::run
