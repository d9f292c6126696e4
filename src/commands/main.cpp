// SPDX-License-Identifier: Apache-2.0
// caravan COMMAND CONFIG [--section.key=value …]: chooses the subcommand; everything else is theirs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "comm/agreement.hpp"
#include "commands/session.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "kernels/runtime.hpp"

namespace caravan::commands {
namespace {

struct Command {
  const char* name;
  int (*run)(const Session&);
  const char* help;
};
constexpr Command table[] = {
    {"upcycle", upcycle, "a dense Hugging Face model becomes a mixture of experts: writes the checkpoint of step 0"},
    {"prepare", prepare, "instructions become packed token files"},
    {"train", train, "trains on any number of ranks; resumes where an earlier start ended"},
    {"evaluate", evaluate, "held-out loss and a greedy answer of a checkpoint"},
};

std::string usage() {
  std::string text =
      "usage: caravan COMMAND CONFIG [--section.key=value ...]\n       caravan --help | --version\n\nCommands:\n";
  for (const Command& command : table) {
    text += "  " + std::string(command.name) + std::string(10 - std::string(command.name).size(), ' ') + command.help +
            "\n";
  }
  return text +
         "\n  caravan COMMAND CONFIG --dump-config prints the complete configuration, with comments, and stops.\n"
         "Exit codes: 0 done, 2 bad input, 16 numerics, 70 internal error, 74 storage full, 75 stopped with a good\n"
         "checkpoint (start again), 76 another rank was lost or hangs (start again).\n";
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : table) {
    if (name == command.name) return command;
    names.emplace_back(command.name);
  }
  const std::string near = core::nearest_match(name, names);
  core::bad_input("unknown command \"", name, "\"", near.empty() ? "" : "; did you mean " + near + "?",
                  " Commands are ", core::join(names), "; see caravan --help");
}

/// Whether this is the only process of the job that should speak before MPI has started.
bool speaks_before_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return std::string(rank) == "0";
  }
  return true;
}

struct Invocation {
  const Command* command = nullptr;  // null: the text is all
  config::Config config;
  std::string text;
};

/// Everything that can be known without other ranks: a wrong line costs nothing here, also on a login node.
Invocation parse(std::vector<std::string> arguments) {
  Invocation invocation;
  const auto take = [&](const std::string& flag) {
    const auto found = std::find(arguments.begin(), arguments.end(), flag);
    if (found == arguments.end()) return false;
    arguments.erase(found);
    return true;
  };
  if (take("--version")) {
    invocation.text = core::build_facts_text() + "\n";
    return invocation;
  }
  if (take("--help") || take("-h") || arguments.empty()) {
    invocation.text = usage() + "\n" + config::help();
    return invocation;
  }
  const bool dump = take("--dump-config");
  const Command& command = find_command(arguments.front());
  if (arguments.size() < 2 || arguments[1].rfind("--", 0) == 0) {
    core::bad_input("caravan ", command.name, " needs a configuration file: caravan ", command.name,
                    " CONFIG [--section.key=value ...]; inputs/ has examples");
  }
  invocation.config = config::load(arguments[1], {arguments.begin() + 2, arguments.end()});
  if (dump) {
    invocation.text = config::dump(invocation.config);
    return invocation;
  }
  config::validate(invocation.config, command.name);
  invocation.command = &command;
  return invocation;
}

int run(const Invocation& invocation, const comm::MpiRuntime& mpi) {
  core::log_as_rank(mpi.world_rank(), mpi.world_size());
  try {
    const kernels::Runtime kernels;
    const auto world = comm::make_world(invocation.config.watchdog.seconds);
    comm::require_same(*world, "builds of caravan", core::build_facts_text());
    comm::require_same(*world, "configurations", config::json(invocation.config));
    return invocation.command->run({invocation.config, *world});
  } catch (const comm::AgreedError& error) {
    if (mpi.world_rank() == 0) core::log_error(error.what());
    return static_cast<int>(error.code());
  } catch (...) {
    const comm::Failure failure = comm::attempt([] { throw; });
    core::log_error(failure.message);
    mpi.abort(static_cast<int>(failure.code));
  }
}

}  // namespace
}  // namespace caravan::commands

int main(int argc, char** argv) {
  using namespace caravan;
  commands::Invocation invocation;
  try {
    invocation = commands::parse({argv + 1, argv + argc});
  } catch (const core::Error& error) {
    if (commands::speaks_before_mpi()) core::log_error(error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    if (commands::speaks_before_mpi()) core::log_error(error.what());
    return static_cast<int>(core::ExitCode::internal);
  }
  if (!invocation.command) {
    if (commands::speaks_before_mpi()) std::fputs(invocation.text.c_str(), stdout);
    return 0;
  }
  try {
    const comm::MpiRuntime mpi(&argc, &argv);
    return commands::run(invocation, mpi);
  } catch (const core::Error& error) {
    core::log_error(error.what());
    return static_cast<int>(error.code());
  }
}
