// SPDX-License-Identifier: Apache-2.0
#include "convert/upcycle.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "checkpoint/save.hpp"
#include "comm/agreement.hpp"
#include "convert/base_tensors.hpp"
#include "convert/byte_progress.hpp"
#include "convert/companions.hpp"
#include "convert/terms.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "family/hugging_face_source.hpp"
#include "family/initial_values.hpp"
#include "family/parameters.hpp"
#include "family/peft_source.hpp"
#include "io/atomic_file.hpp"
#include "run/locked_folder.hpp"
#include "run/shared_folder.hpp"
#include "run/step_0_origin.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;
using layout::ParameterSpec;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::uint64_t bytes_of(const ParameterSpec& parameter) {
  return static_cast<std::uint64_t>(layout::element_count(parameter.shape)) * core::size_of(parameter.storage);
}

// Largest first, each to the rank with the least so far: [parameter] -> rank.
std::vector<int> share_by_bytes(const std::vector<ParameterSpec>& parameters, int ranks) {
  std::vector<std::size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bytes_of(parameters[a]) > bytes_of(parameters[b]); });
  std::vector<std::uint64_t> load(static_cast<std::size_t>(ranks));
  std::vector<int> owner(parameters.size());
  for (const std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    owner[i] = static_cast<int>(least - load.begin());
    *least += bytes_of(parameters[i]);
  }
  return owner;
}

std::vector<checkpoint::Piece> pieces_of_rank(const std::vector<ParameterSpec>& parameters, int rank, int ranks,
                                              const layout::TensorSource& source, std::uint64_t seed,
                                              ByteProgress& progress) {
  const std::vector<int> owner = share_by_bytes(parameters, ranks);
  std::vector<checkpoint::Piece> pieces;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (owner[i] != rank) continue;
    const ParameterSpec& parameter = parameters[i];
    const auto fill = [&parameter, &source, seed, &progress](std::int64_t begin, std::int64_t end, void* out) {
      const layout::Rectangle rows = layout::rows_of(layout::whole(parameter.shape), {begin, end});
      if (parameter.trainable && !source.contains(parameter.name)) {
        family::fill_initial(parameter, seed, rows, static_cast<float*>(out));
      } else {
        read_finite(source, parameter, rows, out);
      }
      progress.add(static_cast<std::uint64_t>(rows.count()) * core::size_of(parameter.storage));
    };
    pieces.push_back({parameter.name, parameter.shape, parameter.storage, layout::whole(parameter.shape), fill});
  }
  return pieces;
}

// What a checkpoint of step 0 is made from; equal facts give equal bytes.
json facts_of(const UpcycleRequest& request, const std::string& config, const layout::TensorSource& source,
              const std::vector<ParameterSpec>& parameters) {
  json facts{{"config", core::parse_json(config)},
             {"seed", request.seed},
             {"base", base_fingerprint_text(source, parameters)}};
  if (!request.kept.empty()) facts["kept"] = request.kept;
  return facts;
}

// Whether the folder holds this very checkpoint already. Throws when it holds another one, or a damaged one.
bool is_there(const fs::path& folder, const json& facts) {
  if (!fs::exists(folder / "manifest.json")) return false;
  const checkpoint::Manifest manifest = checkpoint::Manifest::read(folder);
  const json found = manifest.state.value("upcycle", json::object());
  if (found != facts) {
    std::vector<std::string> differences;
    for (const json& difference : json::diff(found, facts)) differences.push_back(difference.at("path"));
    core::bad_input(folder.string(), " holds a step 0 that was made from something else; it differs in ",
                    core::join(differences), "; choose another run.folder or model.store, or remove it");
  }
  const std::vector<std::string> problems = checkpoint::shard_problems(folder, manifest);
  if (!problems.empty()) {
    core::bad_input(folder.string(), " holds this step 0, but it is damaged (", core::join(problems, "; "),
                    "); remove it and run upcycle again");
  }
  return true;
}

// Rank 0's answer on every rank; its refusal is everybody's.
bool agree_is_there(comm::Communicator& world, const fs::path& folder, const json& facts) {
  std::int64_t there = 0;
  comm::on_all_ranks(world, [&] {
    if (world.rank() == 0) there = is_there(folder, facts) ? 1 : 0;
  });
  return world.all_reduce("share whether step 0 is there", there, comm::Reduce::max) != 0;
}

// Says so when torch_dtype and the files disagree: the values are then rounded, or widened, to torch_dtype.
void warn_of_conversion(const layout::TensorSource& source, const std::vector<ParameterSpec>& parameters) {
  const ParameterSpec* first = nullptr;
  int converted = 0;
  for (const ParameterSpec& parameter : parameters) {
    if (parameter.trainable || source.info(parameter.name).dtype == parameter.storage) continue;
    if (converted++ == 0) first = &parameter;
  }
  if (converted == 0) return;
  core::log_warning(core::concat(
      source.where(), ": ", converted, " tensors (", first->name, ", …) are stored as ", core::name_of(first->storage),
      ", which config.json's torch_dtype asks for; the files hold ", core::name_of(source.info(first->name).dtype)));
}

}  // namespace

UpcycleReport upcycle(comm::Communicator& world, const UpcycleRequest& request) {
  const Clock::time_point start = Clock::now();
  family::ModelSpec base;
  std::optional<family::HuggingFaceSource> files;
  std::optional<family::AdaptedSource> with_adapter;
  std::string config;
  comm::on_all_ranks(world, [&] {
    base = family::read_model_spec(request.base, request.spec.rotary.theta);
    files.emplace(request.base, base);
    if (!request.adapter.empty()) {
      const family::PeftAdapter adapter = family::read_peft_adapter(request.adapter);
      with_adapter.emplace(*files, family::PeftSource(adapter, family::adapted(base, adapter)));
    }
    config = family::crafted_config(io::read_file(fs::path(request.base) / "config.json"), request.spec);
  });
  const layout::TensorSource& source = with_adapter ? static_cast<const layout::TensorSource&>(*with_adapter) : *files;
  const std::vector<ParameterSpec> parameters = family::parameter_specs(request.spec);

  UpcycleReport report;
  report.trainable = family::count_elements(parameters, true);
  report.frozen = family::count_elements(parameters, false) - report.trainable;
  for (const ParameterSpec& parameter : parameters) report.bytes += bytes_of(parameter);

  checkpoint::SaveRequest save;
  save.folder = request.folder;
  save.program = request.program;
  for (const ParameterSpec& parameter : parameters) save.tensors.push_back(parameter.name);
  save.state["upcycle"] = facts_of(request, config, source, parameters);
  run::Step0Origin{request.base, request.adapter}.write_into(save.state);
  // Asked first without the lock, since what is there may be read-only; then again, as another process may have been
  // at work until now.
  std::optional<run::LockedFolder> folder;
  report.already_there = agree_is_there(world, request.folder, save.state["upcycle"]);
  if (!report.already_there) {
    comm::on_all_ranks(world, [&] {
      if (world.rank() == 0) folder.emplace(request.folder);
    });
    run::require_shared(world, request.folder, "the folder of step 0");
    report.already_there = agree_is_there(world, request.folder, save.state["upcycle"]);
  }
  if (!report.already_there) {
    warn_of_conversion(source, parameters);
    checkpoint::prepare(world, save);
    std::uint64_t mine = 0;
    const std::vector<int> owner = share_by_bytes(parameters, world.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) mine += owner[i] == world.rank() ? bytes_of(parameters[i]) : 0;
    ByteProgress progress("upcycle", mine);
    checkpoint::ShardReport shard =
        checkpoint::write_shard(save.folder, world.rank(),
                                pieces_of_rank(parameters, world.rank(), world.size(), source, request.seed, progress));
    if (world.rank() == 0 && shard.failure.code == core::ExitCode::done) {
      shard.failure = comm::attempt([&] {  // commit tells all ranks
        folder->require_ours();
        write_companions({request.base, request.tokenizer}, request.folder, config);
        keep_terms(request.base, request.folder);
      });
    }
    checkpoint::commit(world, save, shard);
  }
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace caravan::convert
