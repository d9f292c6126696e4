// SPDX-License-Identifier: Apache-2.0
#include "run/checkpoint_choice.hpp"

#include "checkpoint/retention.hpp"
#include "comm/agreement.hpp"

namespace caravan::run {

namespace fs = std::filesystem;

fs::path step_0_folder(const RunFolder& run, const std::string& store) {
  return store.empty() ? checkpoint::step_folder(run.checkpoints(), 0) : fs::path(store);
}

std::optional<fs::path> chosen_checkpoint(const RunFolder& run, std::optional<std::int64_t> step,
                                          const fs::path& step_0) {
  if (step == 0) return step_0;
  if (step) return checkpoint::step_folder(run.checkpoints(), *step);
  if (auto newest = checkpoint::newest_good(run.checkpoints())) return newest;
  if (fs::exists(step_0 / "manifest.json")) return step_0;
  return std::nullopt;
}

fs::path choose_together(comm::Communicator& world, const std::function<fs::path()>& choose) {
  std::string chosen;
  comm::on_all_ranks(world, [&] {
    if (world.rank() == 0) chosen = choose().string();
  });
  return world.broadcast_text("share the choice of rank 0", chosen, 0);
}

}  // namespace caravan::run
