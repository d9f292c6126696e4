// SPDX-License-Identifier: Apache-2.0
#include "commands/verify.hpp"

#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/start.hpp"
#include "config/flags.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "evaluate/reference_file.hpp"
#include "family/hugging_face_source.hpp"
#include "family/peft_source.hpp"

namespace caravan::commands {
namespace {

constexpr const char* usage =
    "usage: caravan verify --model=DIR [--adapter=DIR] --reference=FILE.safetensors [--precision=fp32|bf16] "
    "[--tolerance=…] [--layout.tp=…] [--layout.ep=…]";

struct Request {
  std::string model, adapter, reference;
  std::optional<double> tolerance;
  config::Config config;  // of the layout and the precision; the rest is at its defaults
};

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  core::bad_input("caravan verify: ", parts..., "; ", usage);
}

double read_tolerance(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0) {
    refuse("--tolerance=", text, " is not a number of at least 0");
  }
  return value;
}

// The flags and their values, each at most once.
std::map<std::string, std::string> read_flags(const std::vector<std::string>& arguments) {
  const std::vector<std::string> names{"model",     "adapter",   "reference", "precision",
                                       "tolerance", "layout.tp", "layout.ep"};
  std::vector<config::Flag> flags;
  try {
    flags = config::split_flags(arguments, names);
  } catch (const core::Error& error) {
    refuse(error.what());
  }
  std::map<std::string, std::string> given;
  for (const config::Flag& flag : flags) {
    if (flag.name.empty()) refuse("unexpected argument ", flag.word);
    if (!flag.known) {
      const std::string near = core::nearest_match(flag.name, names);
      refuse("unknown flag --", flag.name, near.empty() ? "" : "; did you mean --" + near + "?");
    }
    if (!given.emplace(flag.name, flag.value).second) refuse("--", flag.name, " is given twice");
  }
  return given;
}

Request read_request(const std::map<std::string, std::string>& given) {
  Request request;
  // The reference is another program's, mostly fp32: only there does every wrong weight show.
  request.config.train.precision = train::Precision::fp32;
  for (const auto& [name, value] : given) {
    if (name == "model") request.model = value;
    if (name == "adapter") request.adapter = value;
    if (name == "reference") request.reference = value;
    if (name == "tolerance") request.tolerance = read_tolerance(value);
    for (const config::Field& field : config::fields_of(request.config)) {
      if (field.name() != (name == "precision" ? "train.precision" : name)) continue;
      if (const std::string complaint = config::assign(field, {value}); !complaint.empty()) refuse("--", complaint);
    }
  }
  if (request.model.empty()) refuse("--model is not given");
  if (request.reference.empty()) refuse("--reference is not given");
  return request;
}

/// A Hugging Face folder, with an adapter or without, or a checkpoint, open on all ranks.
struct OpenModel {
  family::ModelSpec spec;
  std::optional<checkpoint::CheckpointReader> checkpoint;
  std::unique_ptr<family::HuggingFaceSource> files;  // where `adapted` finds it when the model moves
  std::optional<family::AdaptedSource> adapted;

  const layout::TensorSource& source() const {
    if (checkpoint) return *checkpoint;
    if (adapted) return *adapted;
    return *files;
  }
};

OpenModel open_model(const Session& session, const std::filesystem::path& folder, const std::string& adapter_folder) {
  OpenModel model;
  if (std::filesystem::exists(folder / "manifest.json")) {
    if (!adapter_folder.empty()) {
      core::bad_input("--adapter=", adapter_folder, " goes with a Hugging Face folder, but ", folder.string(),
                      " is a checkpoint");
    }
    Start start = open_start(session, folder);
    model.spec = std::move(start.spec);
    model.checkpoint.emplace(std::move(*start.reader));
    return model;
  }
  comm::Fact config;
  comm::on_all_ranks(session.world, [&] {
    if (std::filesystem::is_directory(folder / "checkpoints")) {
      core::bad_input(folder.string(), " is a run; name one of its checkpoints, such as ",
                      (folder / "checkpoints" / "step-00000000").string());
    }
    model.spec = family::read_model_spec(folder.string());
    config = checksum_of(folder / "config.json");
    model.files = std::make_unique<family::HuggingFaceSource>(folder.string(), model.spec);
    if (adapter_folder.empty()) return;
    const family::PeftAdapter adapter = family::read_peft_adapter(adapter_folder);
    model.spec = family::adapted(model.spec, adapter);
    model.adapted.emplace(*model.files, family::PeftSource(adapter, model.spec));
  });
  require_same_files(session, {config});
  return model;
}

evaluate::LogitTolerance tolerance_of(const Request& request, const evaluate::ReferenceFile& reference,
                                      const evaluate::LogitDifference& difference, std::int64_t layers) {
  if (request.tolerance) return {*request.tolerance, 0};
  const bool rounded = reference.is_rounded() || request.config.train.precision == train::Precision::bf16;
  return rounded ? evaluate::rounded_weights(difference) : evaluate::same_weights(difference, layers);
}

int run(const Request& request, comm::Communicator& world) {
  const Session session{request.config, world};
  // Without files: this command writes nothing anywhere.
  const auto watchdog = comm::start_watchdog_beside(world, {}, request.config.watchdog.seconds);
  const OpenModel opened = open_model(session, request.model, request.adapter);
  std::optional<evaluate::ReferenceFile> reference;
  comm::on_all_ranks(world, [&] { reference.emplace(request.reference, opened.spec.vocabulary); });
  Model model(session, opened.spec, opened.source());
  comm::on_all_ranks(world, [&] { model.parameters.load_trainable(opened.source()); });
  core::log("verifying ", request.model, request.adapter.empty() ? "" : " with " + request.adapter, " against ",
            request.reference, " on ", model.grid.describe(), ", in ", core::spelling(request.config.train.precision));
  const evaluate::LogitDifference difference = evaluate::compare_logits(
      model.context, *model.decoder, reference->texts(),
      [&](std::size_t text, std::int64_t first, std::int64_t rows) { return reference->logits(text, first, rows); });
  comm::on_all_ranks(world, [&] {
    if (difference.reference_not_finite == 0) return;
    core::bad_input(request.reference, ": tensor logits: ", difference.reference_not_finite,
                    " values are NaN or infinite where the mask is 1");
  });
  const evaluate::LogitTolerance tolerance = tolerance_of(request, *reference, difference, opened.spec.layers);
  const bool same = evaluate::within(difference, tolerance);
  core::log(difference.describe());
  core::log(same ? "the same within the tolerance: " : "DIFFERENT: more than the tolerance: ", tolerance.describe());
  return static_cast<int>(same ? core::ExitCode::done : core::ExitCode::difference);
}

}  // namespace

Job verify(const std::vector<std::string>& arguments) {
  const std::map<std::string, std::string> given = read_flags(arguments);
  const Request request = read_request(given);
  Job job;
  for (const auto& [name, value] : given) job.facts.push_back({"--" + name, value});
  job.deadline_seconds = request.config.watchdog.seconds;
  job.run = [request](comm::Communicator& world) { return run(request, world); };
  return job;
}

}  // namespace caravan::commands
