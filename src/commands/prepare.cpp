// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include "comm/agreement.hpp"
#include "commands/session.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "data/prepared.hpp"

namespace caravan::commands {
namespace {

/// With which settings the files that are there were made, where they are others.
void log_what_is_replaced(const config::Config& config) {
  std::vector<std::string> differences;
  try {
    differences = data::prepared(config.data, config.train.sequence, config.model.base).differences;
  } catch (const core::Error&) {
    return;  // no packed file, or a damaged one: nothing to compare
  }
  if (!differences.empty()) core::log("replacing ", config.data.packed, ", which was made with other settings:");
  for (const std::string& difference : differences) core::log("    ", difference);
}

}  // namespace

int prepare(const Session& session) {
  const config::Config& config = session.config;
  // The work of one process: further ranks wait in MPI_Finalize, where no deadline runs.
  if (!session.first()) return 0;
  try {
    log_what_is_replaced(config);
    const std::string program = core::concat("caravan ", core::build_facts().version);
    const data::PrepareReport report = data::prepare(config.data, config.train.sequence, config.model.base, program);
    for (const std::string& line : report.lines()) core::log_line(line);
  } catch (const core::Error& error) {
    // What ends a stopped start is collective, and the other ranks are not there any more.
    if (error.code() == core::ExitCode::internal && session.world.size() > 1) throw;
    throw comm::AgreedError(error.code(), error.what());  // nobody waits for this rank
  }
  return 0;
}

}  // namespace caravan::commands
