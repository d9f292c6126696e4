// SPDX-License-Identifier: Apache-2.0
// caravan COMMAND …: chooses the subcommand; everything else is theirs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "comm/agreement.hpp"
#include "commands/info.hpp"
#include "commands/job.hpp"
#include "commands/session.hpp"
#include "commands/verify.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"
#include "kernels/runtime.hpp"

namespace caravan::commands {
namespace {

/// caravan COMMAND CONFIG [--section.key=value …].
template <int (*command)(const Session&)>
Job read_config(const char* name, std::vector<std::string> arguments) {
  const auto dump = std::find(arguments.begin(), arguments.end(), "--dump-config");
  const bool dumps = dump != arguments.end();
  if (dumps) arguments.erase(dump);
  if (arguments.empty() || arguments[0].rfind("--", 0) == 0) {
    core::bad_input("caravan ", name, " needs a configuration file: caravan ", name,
                    " CONFIG [--section.key=value ...]; inputs/ has examples");
  }
  std::replace(arguments.begin(), arguments.end(), std::string("--profile"), std::string("--train.profile=true"));
  const config::Config config = config::load(arguments[0], {arguments.begin() + 1, arguments.end()});
  Job job;
  if (dumps) {
    job.text = config::dump(config);
    return job;
  }
  config::validate(config, name);
  job.fingerprint = config::json(config);
  job.stops_in_order = std::string_view(name) == "train";
  job.deadline_seconds = config.watchdog.seconds;
  job.run = [config](comm::Communicator& world) { return command({config, world}); };
  return job;
}

constexpr Command table[] = {
    {"upcycle", [](const auto& words) { return read_config<upcycle>("upcycle", words); },
     "CONFIG: a dense Hugging Face model becomes a mixture of experts: writes the checkpoint of step 0"},
    {"prepare", [](const auto& words) { return read_config<prepare>("prepare", words); },
     "CONFIG: instructions become packed token files"},
    {"train", [](const auto& words) { return read_config<train>("train", words); },
     "CONFIG [--profile]: trains on any number of ranks; resumes where an earlier start ended; --profile: what the "
     "phases and collectives of a step take"},
    {"evaluate", [](const auto& words) { return read_config<evaluate>("evaluate", words); },
     "CONFIG: held-out loss and a greedy answer of a checkpoint"},
    {"info", info, "PATH [--tensors] [--verify]: what a file or folder is; --verify compares every checksum"},
    {"export", [](const auto& words) { return read_config<export_checkpoint>("export", words); },
     "CONFIG: a checkpoint becomes a Hugging Face folder, which is read back and compared with it"},
    {"verify", verify,
     "--model=DIR [--adapter=DIR] --reference=FILE.safetensors: whether a model gives the logits that another program "
     "computed"},
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
         "Exit codes: 0 done, 1 a difference was found, 2 bad input, 16 numerics, 70 internal error, 74 storage full,\n"
         "75 stopped with a good checkpoint (start again), 76 another rank was lost or hangs (start again).\n";
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

Job read(const std::vector<std::string>& arguments) {
  const auto has = [&](const char* flag) {
    return std::find(arguments.begin(), arguments.end(), flag) != arguments.end();
  };
  Job job;
  if (has("--version")) {
    job.text = core::build_facts_text() + "\n";
  } else if (arguments.empty() || has("--help") || has("-h")) {
    job.text = usage() + "\n" + config::help();
  } else {
    job = find_command(arguments.front()).read({arguments.begin() + 1, arguments.end()});
  }
  return job;
}

int run(const Job& job, const comm::MpiRuntime& mpi) {
  std::unique_ptr<comm::Communicator> world;
  try {
    world = comm::make_world(job.deadline_seconds);
    core::log_as_rank(world->rank(), world->size());
    const kernels::Runtime kernels;
    comm::require_same(*world, "builds of caravan", core::build_facts_text());
    comm::require_same(*world, "configurations", job.fingerprint);
    return job.run(*world);
  } catch (const comm::AgreedError& error) {
    if (world->rank() == 0) core::log_error(error.what());
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
  int result = 0;
  const comm::Failure failure = comm::attempt([&] {
    const commands::Job job = commands::read({argv + 1, argv + argc});
    if (job.run) {
      std::optional<core::StopRequest> stop_request;
      if (job.stops_in_order) stop_request.emplace();
      const comm::MpiRuntime mpi(&argc, &argv);
      result = commands::run(job, mpi);
    } else if (commands::speaks_before_mpi()) {
      if (job.alone) result = job.alone();
      std::fputs(job.text.c_str(), stdout);
    }
  });
  if (failure.code == core::ExitCode::done) return result;
  if (commands::speaks_before_mpi()) core::log_error(failure.message);
  return static_cast<int>(failure.code);
}
