// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include "comm/agreement.hpp"
#include "commands/run_tokenizer.hpp"
#include "core/build_facts.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "data/prepared.hpp"
#include "io/atomic_file.hpp"

namespace caravan::commands {
namespace {

/// With which settings the files that are there were made, where they are others.
void log_what_is_replaced(const config::Config& config, const std::string& tokenizer) {
  std::vector<std::string> differences;
  try {
    differences = data::prepared(config.data, config.train.sequence, tokenizer).differences;
  } catch (const core::Error&) {
    return;  // no packed file, or a damaged one: nothing to compare
  }
  if (!differences.empty()) core::log("replacing ", config.data.packed, ", which was made with other settings:");
  for (const std::string& difference : differences) core::log("    ", difference);
}

/// What is known of the model before there is one: its configuration may be one that only upcycle refuses.
data::PrepareBase model_of(const Session& session, const std::string& tokenizer) {
  data::PrepareBase base{tokenizer, {}};
  const std::filesystem::path folder =
      base.folder.empty() ? step_0_folder(session) : std::filesystem::path(base.folder);
  if (!std::filesystem::is_regular_file(folder / "config.json")) return base;
  const nlohmann::json model = core::parse_json_if_valid(io::read_file(folder / "config.json"));
  if (!model.is_object()) return base;
  const auto rows = model.find("vocab_size");
  if (rows != model.end() && rows->is_number_integer()) base.vocabulary = rows->get<std::int64_t>();
  return base;
}

}  // namespace

int prepare(const Session& session) {
  const config::Config& config = session.config;
  // The work of one process: further ranks wait in MPI_Finalize, where no deadline runs.
  if (!session.first()) return 0;
  try {
    const TokenizerOfData tokenizer = tokenizer_of_data(session);
    // Before good data are replaced by those that no later stage takes.
    if (!tokenizer.conflict.empty()) core::bad_input(tokenizer.conflict);
    log_what_is_replaced(config, tokenizer.folder);
    const std::string program = core::concat("caravan ", core::build_facts().version);
    const data::PrepareReport report =
        data::prepare(config.data, config.train.sequence, model_of(session, tokenizer.folder), program);
    for (const std::string& line : report.lines()) core::log_line(line);
  } catch (const core::Error& error) {
    // What ends a stopped start is collective, and the other ranks are not there any more.
    if (error.code() == core::ExitCode::internal && session.world.size() > 1) throw;
    throw comm::AgreedError(error.code(), error.what());  // nobody waits for this rank
  }
  return 0;
}

}  // namespace caravan::commands
