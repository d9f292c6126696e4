// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "commands/job.hpp"
#include "commands/session.hpp"
#include "core/complaints.hpp"

namespace caravan::commands {

/// A subcommand: what it takes, what it needs and what it does. To add one is to add a row to the table.
struct Command {
  const char* name;
  const char* arguments;  // behind the name, for usage texts
  const char* help;

  // What it does, in one of three ways. `arguments` are the words behind the name; a wrong one throws (exit 2).
  /// Takes CONFIG and settings, and runs on all ranks.
  int (*with_configuration)(const Session& session) = nullptr;
  /// Has flags of its own, and runs on all ranks: sets the job's facts, deadline and `run`.
  Job (*on_ranks)(const Command& command, const std::vector<std::string>& arguments) = nullptr;
  /// Has flags of its own, and runs in one process, without MPI: what is returned does the work and gives the exit
  /// code.
  std::function<int()> (*alone)(const Command& command, const std::vector<std::string>& arguments) = nullptr;

  // What it needs.
  /// With a configuration: complains about settings that are missing or do not go together.
  void (*check)(const config::Config& config, core::Complaints& complaints) = nullptr;
  bool run_folder = false;  // with a configuration: does not begin without run.folder
  bool device = false;      // computes with kernels: they are opened first
  /// USR1 and TERM end it in order, and then a message says this.
  const char* when_stopped = nullptr;
};

/// "usage: caravan info PATH [--tensors] [--verify]".
std::string usage_of(const Command& command);

/// What a command line asks for. `arguments` are the words behind "caravan". Throws (exit 2) on what is wrong with
/// them, before MPI starts.
Job read_job(const std::vector<std::string>& arguments);

}  // namespace caravan::commands
