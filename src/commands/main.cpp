// SPDX-License-Identifier: Apache-2.0
// caravan COMMAND …: starts what a row of the table of commands says.
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "comm/agreement.hpp"
#include "comm/mpi_runtime.hpp"
#include "commands/table.hpp"
#include "core/build_facts.hpp"
#include "core/executable.hpp"
#include "core/leave.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "kernels/runtime.hpp"
#include "run/early_stop.hpp"

namespace caravan::commands {
namespace {

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
    std::optional<kernels::Runtime> kernels;
    if (job.device) kernels.emplace();
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
    const comm::Failure unread = comm::attempt([&] { job = commands::read_job({argv + 1, argv + argc}); });
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
