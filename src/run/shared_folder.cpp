// SPDX-License-Identifier: Apache-2.0
#include "run/shared_folder.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "comm/agreement.hpp"
#include "core/host_name.hpp"
#include "core/json.hpp"
#include "run/lock_holder.hpp"
#include "run/run_folder.hpp"

namespace caravan::run {
namespace {

namespace fs = std::filesystem;

/// How long a file that another node has made may stay unseen: network file systems keep attributes for a while.
constexpr std::chrono::seconds longest_lag{10};
constexpr std::chrono::milliseconds pause{200};

/// What the folder's lock says of its holder. Throws when it cannot be read; nothing when it is not there or not whole.
std::optional<LockHolder> holder_in(const fs::path& folder) {
  // Opening a folder makes NFS ask the server for its entries anew, so that one that was missing before is found.
  const fs::directory_iterator refreshed(folder);
  return read_lock_holder(folder / lock_name);
}

/// Whether the folder comes to show the lock of this holder.
bool comes_to_show(const fs::path& folder, const LockHolder& holder) {
  const auto end = std::chrono::steady_clock::now() + longest_lag;
  while (true) {
    std::optional<LockHolder> seen;
    // An error is as good as another lock: no file, no folder, or one that this rank may not read.
    const bool read = comm::attempt([&] { seen = holder_in(folder); }).code == core::ExitCode::done;
    if (read && seen && same_holder(*seen, holder)) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

void require_shared(comm::Communicator& world, const fs::path& folder, const std::string& setting) {
  nlohmann::json first;
  if (world.rank() == 0) {
    first = {
        {"holder", to_text(this_process())}, {"host", core::host_name()}, {"folder", fs::absolute(folder).string()}};
  }
  const std::string text = world.broadcast_text("share which folder is locked", core::json_text(first), 0);
  comm::on_all_ranks(world, [&] {
    first = core::parse_json(text);
    if (comes_to_show(folder, lock_holder_from(first["holder"].get<std::string>()))) return;
    core::bad_input("on ", core::host_name(), ", ", setting, " = ", folder.string(), " is ",
                    fs::absolute(folder).string(), ", which does not hold the lock that rank 0 has made in ",
                    first["folder"].get<std::string>(), " on ", first["host"].get<std::string>(),
                    "; all ranks need the same folder: put it on a file system that the nodes share; a relative path "
                    "depends on the working directory");
  });
}

}  // namespace caravan::run
