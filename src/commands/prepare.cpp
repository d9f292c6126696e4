// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include "comm/agreement.hpp"
#include "commands/session.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"

namespace caravan::commands {

int prepare(const Session& session) {
  const config::Config& config = session.config;
  // Tokenising is the work of one process; further ranks wait for its end, or share its error.
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    const data::PrepareReport report =
        data::prepare(config.data, config.train.sequence, config.model.base, core::build_facts().version);
    for (const std::string& line : report.lines()) core::log_line(line);
  });
  return 0;
}

}  // namespace caravan::commands
