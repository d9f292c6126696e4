// SPDX-License-Identifier: Apache-2.0
// caravan COMMAND …: chooses the subcommand; everything else is theirs.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "comm/agreement.hpp"
#include "commands/info.hpp"
#include "commands/job.hpp"
#include "commands/session.hpp"
#include "commands/status.hpp"
#include "commands/verify.hpp"
#include "core/build_facts.hpp"
#include "core/executable.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"
#include "kernels/runtime.hpp"
#include "run/early_stop.hpp"

namespace caravan::commands {
namespace {

/// Every setting: "train.lr", "0.0002".
std::vector<comm::Fact> facts_of(const config::Config& config) {
  std::vector<comm::Fact> facts;
  const auto sections = nlohmann::ordered_json::parse(config::json(config));
  for (const auto& [section, settings] : sections.items()) {
    for (const auto& [key, value] : settings.items()) facts.push_back({core::concat(section, ".", key), value.dump()});
  }
  return facts;
}

/// What this program is, beside its bytes.
std::vector<comm::Fact> program_facts() {
  const core::BuildFacts& build = core::build_facts();
  return {{"caravan's version", build.version},
          {"caravan's commit", build.commit},
          {"compiler", build.compiler},
          {"build type", build.build_type},
          {"MPI", build.mpi},
          {"HDF5", build.hdf5},
          {"Kokkos", build.kokkos},
          {"LibTorch", build.libtorch},
          {"checksum of the program", core::executable_checksum()}};
}

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
  job.facts = facts_of(config);
  // Why train says more: see train::run_loop.
  job.when_stopped = std::string_view(name) == "train"
                         ? "this start had not completed a step; the time limit is too short for start + one step"
                         : "nothing was finished, and nothing unfinished counts; start it again";
  job.run_folder = config.run.folder;
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
    {"status", status,
     "RUN|CONFIG [--json]: how far a run is: stages, checkpoints, who holds its lock, node hours, why it stopped"},
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
         "Exit codes: 0 done, 1 a difference was found, 2 bad input, 16 numerics, 70 internal error, or stopped "
         "before\n"
         "anything was finished, 74 storage full, 75 stopped with a good checkpoint (start again), 76 another rank "
         "was\n"
         "lost or hangs, or the storage failed (start again).\n";
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

/// This process's rank as its launcher counts, before MPI has started; null without a launcher.
const char* launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return rank;
  }
  return nullptr;
}

/// Whether this is the only process of the job that should speak before MPI has started.
bool speaks_before_mpi() {
  const char* rank = launcher_rank();
  return rank == nullptr || std::string_view(rank) == "0";
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
    job.facts.insert(job.facts.begin(), {"command", arguments.front()});
  }
  return job;
}

/// Ends all ranks together when one has no job or another one than the rest.
void agree(comm::Communicator& world, const Job& job, const comm::Failure& unread) {
  comm::on_all_ranks(world, [&] {
    if (unread.code != core::ExitCode::done) throw core::Error(unread.code, unread.message);
  });
  std::vector<comm::Fact> facts = program_facts();
  facts.insert(facts.end(), job.facts.begin(), job.facts.end());
  comm::require_same(world, facts, "start all ranks with the same program and configuration");
  const std::string threads = std::to_string(at::get_num_threads());
  for (const std::string& difference : comm::differences(world, {{"threads (OMP_NUM_THREADS)", threads}})) {
    core::log_warning(difference +
                      "; sums round otherwise with another number of threads, and all wait for the slowest");
  }
}

int run(const Job& job, const comm::Failure& unread, const comm::MpiRuntime& mpi) {
  std::unique_ptr<comm::Communicator> world;
  try {
    world = comm::make_world(job.deadline_seconds);
    core::log_as_rank(world->rank(), world->size());
    const kernels::Runtime kernels;
    agree(*world, job, unread);
    run::forget_early_stop(*world, job.run_folder);
    return job.run(*world);
  } catch (const comm::AgreedError& error) {
    // The log may be on a file system that does not answer, or another rank may not come out of one.
    constexpr double longest_end = 60;  // seconds
    core::leave_within(longest_end, error.code(), "");
    if (world->rank() == 0) core::log_error(error.what());
    if (error.code() == core::ExitCode::internal) run::note_early_stop(*world, job.run_folder);
    return static_cast<int>(error.code());
  } catch (...) {
    const comm::Failure failure = comm::attempt([] { throw; });
    // Likewise; and what is said by then need not be said again.
    constexpr double longest_end = 10;  // seconds
    core::leave_within(longest_end, failure.code, "");
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
    commands::Job job;
    const comm::Failure unread = comm::attempt([&] { job = commands::read({argv + 1, argv + argc}); });
    const bool refused = unread.code != core::ExitCode::done;
    // A rank alone with an error would end without a word, or leave the others waiting for it: all must hear of it.
    if (refused && !commands::launcher_rank()) throw core::Error(unread.code, unread.message);
    if (job.run || refused) {
      std::optional<core::StopRequest> stop_request;
      if (job.when_stopped) stop_request.emplace(job.when_stopped);
      const comm::MpiRuntime mpi(&argc, &argv);
      result = commands::run(job, unread, mpi);
    } else if (commands::speaks_before_mpi()) {
      if (job.alone) result = job.alone();
      std::fputs(job.text.c_str(), stdout);
    }
  });
  if (failure.code == core::ExitCode::done) return result;
  if (commands::speaks_before_mpi()) core::log_error(failure.message);
  return static_cast<int>(failure.code);
}
