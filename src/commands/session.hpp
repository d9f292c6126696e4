// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "comm/mpi_runtime.hpp"
#include "config/config.hpp"
#include "run/run_folder.hpp"

namespace caravan::commands {

/// What every subcommand starts from: the configuration, the same on all ranks, and the world.
struct Session {
  const config::Config& config;
  comm::Communicator& world;
  bool first() const { return world.rank() == 0; }
  run::RunFolder run() const { return run::RunFolder(config.run.folder); }
  std::filesystem::path run_folder() const { return config.run.folder; }
  std::filesystem::path checkpoints() const { return run().checkpoints(); }
};

// The subcommands: each returns the program's exit code or throws.
int upcycle(const Session& session);
int prepare(const Session& session);
int train(const Session& session);
int evaluate(const Session& session);
int export_checkpoint(const Session& session);

}  // namespace caravan::commands
