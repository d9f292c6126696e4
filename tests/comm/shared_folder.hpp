// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "comm/mpi_runtime.hpp"
#include "core/error.hpp"
#include "tests/io/scratch_folder.hpp"

namespace caravan::test {

/// Rank 0's scratch folder, on every rank. Collective.
inline std::filesystem::path shared(comm::Communicator& world, const ScratchFolder& scratch) {
  return world.broadcast_text("share a folder", scratch.path().string(), 0);
}

/// The world, and a new empty folder that all ranks see. It is removed when all have come to the end of the scope: no
/// rank removes what another one still looks at.
class SharedFolder {
 public:
  SharedFolder() : world(comm::make_world(60)), folder(shared(*world, scratch_)) {}
  ~SharedFolder() {
    try {
      world->barrier("end of the test");
    } catch (const core::Error&) {  // another rank's check has failed; that one ends the world
    }
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

 private:
  ScratchFolder scratch_;  // each rank has one, of which rank 0's is used

 public:
  const std::unique_ptr<comm::Communicator> world;
  const std::filesystem::path folder;
};

}  // namespace caravan::test
