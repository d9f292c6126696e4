// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include "comm/agreement.hpp"
#include "commands/session.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"

namespace caravan::commands {

int prepare(const Session& session) {
  const config::Config& config = session.config;
  // The work of one process: further ranks wait in MPI_Finalize, where no deadline runs.
  if (!session.first()) return 0;
  try {
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
