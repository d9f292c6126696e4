// SPDX-License-Identifier: Apache-2.0
#include "run/open_run.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "comm/agreement.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"
#include "io/atomic_file.hpp"

namespace caravan::run {
namespace {

namespace fs = std::filesystem;

/// How long a file that another node has made may stay unseen: network file systems keep attributes for a while.
constexpr std::chrono::seconds longest_lag{10};
constexpr std::chrono::milliseconds pause{200};

/// What the folder's lock says of its holder, without the heartbeat, which moves on. Throws when it cannot be read;
/// null when it is not whole.
nlohmann::json holder_in(const fs::path& folder) {
  // Opening a folder makes NFS ask the server for its entries anew, so that one that was missing before is found.
  const fs::directory_iterator refreshed(folder);
  auto holder = nlohmann::json::parse(io::read_file(folder / lock_name), nullptr, false);
  if (!holder.is_object()) return nullptr;
  holder.erase("heartbeat");
  return holder;
}

/// Whether the folder comes to show the lock of this holder.
bool comes_to_show(const fs::path& folder, const nlohmann::json& holder) {
  const auto end = std::chrono::steady_clock::now() + longest_lag;
  while (true) {
    nlohmann::json seen;
    // An error is as good as another lock: no file, no folder, or one that this rank may not read.
    if (comm::attempt([&] { seen = holder_in(folder); }).code == core::ExitCode::done && seen == holder) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

OpenRun::OpenRun(comm::Communicator& world, RunFolder run_folder) : folder_(std::move(run_folder)) {
  const fs::path& folder = folder_.path();
  nlohmann::json first;
  comm::on_all_ranks(world, [&] {
    if (world.rank() != 0) return;
    folders_.emplace(folder);
    lock_.emplace(folder);
    first = {{"holder", holder_in(folder)}, {"host", core::host_name()}, {"folder", fs::absolute(folder).string()}};
  });
  const std::string told = world.broadcast_text(
      "tell which run folder is locked", first.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 0);
  comm::on_all_ranks(world, [&] {
    first = nlohmann::json::parse(told);
    if (comes_to_show(folder, first["holder"])) return;
    core::bad_input("on ", core::host_name(), ", run.folder = ", folder.string(), " is ", fs::absolute(folder).string(),
                    ", which does not hold the lock that rank 0 has made in ", first["folder"].get<std::string>(),
                    " on ", first["host"].get<std::string>(),
                    "; all ranks need the same run folder: put it on a file system that the nodes share; a relative "
                    "path depends on the working directory");
  });
}

void OpenRun::begin_log() const { core::log_to_file(folder_.log().string()); }

}  // namespace caravan::run
