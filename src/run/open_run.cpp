// SPDX-License-Identifier: Apache-2.0
#include "run/open_run.hpp"

#include <ctime>
#include <string>

#include "comm/agreement.hpp"
#include "core/log.hpp"
#include "run/shared_folder.hpp"

namespace caravan::run {

namespace fs = std::filesystem;

OpenRun::OpenRun(comm::Communicator& world, RunFolder run_folder) : world_(world), folder_(std::move(run_folder)) {
  const fs::path& folder = folder_.path();
  comm::on_all_ranks(world, [&] {
    if (world.rank() != 0) return;
    folders_.emplace(folder);
    lock_.emplace(folder);
    began_ = std::time(nullptr);
  });
  require_shared(world, folder, "run.folder");
}

void OpenRun::begin_log(int nodes) {
  core::log_to_file(folder_.log().string());
  if (lock_) start_.emplace(folder_.starts(), began_, lock_->taken_over_from(), world_.size(), nodes);
}

void OpenRun::ended(core::ExitCode code, const std::string& why, std::optional<std::int64_t> step) {
  if (!start_) return;
  const bool ours = comm::attempt([&] { lock_->require_ours(); }).code == core::ExitCode::done;
  if (ours) start_->end(code, why, step);
}

}  // namespace caravan::run
