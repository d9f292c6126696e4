// SPDX-License-Identifier: Apache-2.0
#include "commands/table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "commands/info.hpp"
#include "commands/status.hpp"
#include "commands/verify.hpp"
#include "core/build_facts.hpp"
#include "core/json.hpp"
#include "core/text.hpp"

namespace caravan::commands {
namespace {

constexpr const char* nothing_finished = "nothing was finished, and nothing unfinished counts; start it again";
// Why train says more: see train::run_loop.
constexpr const char* no_step_finished =
    "this start had not completed a step; the time limit is too short for start + one step";

const std::vector<Command>& table() {
  static const std::vector<Command> commands{
      {.name = "upcycle",
       .arguments = "CONFIG",
       .help = "turn a dense Hugging Face model into a mixture of experts: writes the checkpoint of step 0",
       .with_configuration = upcycle,
       .check = config::check_upcycle,
       .when_stopped = nothing_finished},
      {.name = "prepare",
       .arguments = "CONFIG",
       .help = "tokenize instructions into packed token files",
       .with_configuration = prepare,
       .check = config::check_prepare,
       .when_stopped = nothing_finished},
      {.name = "train",
       .arguments = "CONFIG [--profile]",
       .help = "train on any number of ranks, or resume an interrupted run; --profile measures the phases and the "
               "collective operations of each step",
       .with_configuration = train,
       .check = config::check_train,
       .run_folder = true,
       .device = true,
       .when_stopped = no_step_finished},
      {.name = "evaluate",
       .arguments = "CONFIG",
       .help = "compute the held-out loss of a checkpoint and let it answer one held-out prompt",
       .with_configuration = evaluate,
       .check = config::check_evaluate,
       .run_folder = true,
       .device = true,
       .when_stopped = nothing_finished},
      {.name = "export",
       .arguments = "CONFIG",
       .help = "write a checkpoint as a Hugging Face folder, read it back and compare its logits with the checkpoint's",
       .with_configuration = export_checkpoint,
       .check = config::check_export,
       .run_folder = true,
       .device = true,
       .when_stopped = nothing_finished},
      {.name = "status",
       .arguments = "RUN|CONFIG [--json | --shell] [--section.key=value ...]",
       .help = "summarize a run: stages, checkpoints, who uses its folder, node hours and why it stopped; --json and "
               "--shell print the same for programs",
       .alone = status},
      {.name = "info",
       .arguments = "PATH [--tensors] [--verify]",
       .help = "describe a file or folder; --tensors lists its tensors, --verify compares every checksum",
       .alone = info},
      {.name = "verify",
       .arguments = "--model=DIR [--adapter=DIR] --reference=FILE.safetensors [--precision=fp32|bf16] [--tolerance=…] "
                    "[--layout.tp=…] [--layout.ep=…]",
       .help = "compare a model's logits with those that another program computed",
       .on_ranks = verify,
       .device = true},
  };
  return commands;
}

std::string help() {
  std::string text =
      "usage: caravan COMMAND CONFIG [--section.key=value ...]\n       caravan --help | --version\n\n"
      "CONFIG is an INI file such as those in inputs/. Commands:\n";
  for (const Command& command : table()) {
    text += core::concat("  caravan ", command.name, " ", command.arguments, "\n      ", command.help, "\n");
  }
  return text +
         "\n  caravan COMMAND CONFIG --dump-config prints the complete configuration, with comments, and stops.\n\n"
         "Exit codes: 0 done, 1 a check found a difference, 2 bad input (nothing was written), 16 too many steps in a\n"
         "row with a loss or gradient that is not finite, 70 internal error or stopped before anything was finished,\n"
         "74 storage full or over quota, 75 stopped after a good checkpoint was written (start again), 76 a rank was\n"
         "lost or hung, or the storage failed (start again).\n\n"
         "Settings, with their defaults:\n" +
         config::help();
}

/// Every setting: "train.lr", "0.0002".
std::vector<comm::Fact> facts_of(const config::Config& config) {
  std::vector<comm::Fact> facts;
  const auto sections = core::parse_ordered_json(config::json(config));
  for (const auto& [section, settings] : sections.items()) {
    for (const auto& [key, value] : settings.items())
      facts.push_back({core::concat(section, ".", key), core::json_text(value)});
  }
  return facts;
}

Job read_configuration(const Command& command, const std::vector<std::string>& arguments) {
  const config::Request request = config::read_request(command.name, arguments);
  const config::Config& config = request.config;
  Job job;
  if (request.dump) {
    job.text = config::dump(config);
    return job;
  }
  core::Complaints complaints(config.file);
  if (command.run_folder) config.run.need_folder(complaints);
  command.check(config, complaints);
  complaints.end();
  job.facts = facts_of(config);
  job.run_folder = config.run.folder;
  job.deadline_seconds = config.watchdog.seconds;
  job.run = [run = command.with_configuration, config](comm::Communicator& world) { return run({config, world}); };
  return job;
}

Job read_command(const Command& command, const std::vector<std::string>& arguments) {
  Job job;
  if (command.with_configuration != nullptr) {
    job = read_configuration(command, arguments);
  } else if (command.on_ranks != nullptr) {
    job = command.on_ranks(command, arguments);
  } else {
    job.alone = command.alone(command, arguments);
  }
  job.facts.insert(job.facts.begin(), {"command", command.name});
  job.device = command.device;
  job.when_stopped = command.when_stopped;
  return job;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : table()) {
    if (name == command.name) return command;
    names.emplace_back(command.name);
  }
  const std::string near = core::nearest_match(name, names);
  core::bad_input("unknown command \"", name, "\"", near.empty() ? "" : "; did you mean " + near + "?",
                  " Commands are ", core::join(names), "; see caravan --help");
}

}  // namespace

std::string usage_of(const Command& command) {
  return core::concat("usage: caravan ", command.name, " ", command.arguments);
}

Job read_job(const std::vector<std::string>& arguments) {
  const auto has = [&](const char* flag) {
    return std::find(arguments.begin(), arguments.end(), flag) != arguments.end();
  };
  Job job;
  if (has("--version")) {
    job.text = core::build_facts_text() + "\n";
  } else if (arguments.empty() || has("--help") || has("-h")) {
    job.text = help();
  } else {
    job = read_command(find_command(arguments.front()), {arguments.begin() + 1, arguments.end()});
  }
  return job;
}

}  // namespace caravan::commands
