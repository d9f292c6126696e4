// SPDX-License-Identifier: Apache-2.0
#include "commands/verify.hpp"

#include <optional>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/start.hpp"
#include "config/flags.hpp"
#include "core/log.hpp"
#include "evaluate/reference_file.hpp"
#include "family/hugging_face_source.hpp"
#include "family/peft_source.hpp"

namespace caravan::commands {
namespace {

/// The flags of this command.
struct Request {
  std::string model, adapter, reference;
  // The reference is another program's, mostly fp32: only there does every wrong weight show.
  train::Precision precision = train::Precision::fp32;
  double tolerance = -1;  // below 0: what the number formats ask for
  layout::Options layout;

  std::vector<config::Field> fields() {
    config::FieldList flags(""), layout_flags("layout");
    flags("model", model, core::path(), "Hugging Face folder or checkpoint");
    flags("adapter", adapter, core::path(), "PEFT folder on it");
    flags("reference", reference, core::path(), "safetensors file with input_ids and logits");
    flags("precision", precision, core::choice(), "number format of the computation");
    flags("tolerance", tolerance, core::real(0, 1e30), "largest difference of a logit");
    layout.describe(layout_flags);
    std::vector<config::Field> all = flags.take();
    for (config::Field& field : layout_flags.take()) all.push_back(std::move(field));
    return all;
  }
};

Request read_request(const Command& command, const std::vector<std::string>& arguments) {
  Request request;
  const std::vector<std::string> words =
      config::read_flags(command.name, usage_of(command), request.fields(), arguments);
  const auto refuse = [&](const std::string& what) {
    core::bad_input("caravan verify: ", what, "; ", usage_of(command));
  };
  if (!words.empty()) refuse("unexpected argument " + words.front());
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
  if (request.tolerance >= 0) return {request.tolerance, 0};
  const bool rounded = reference.is_rounded() || request.precision == train::Precision::bf16;
  return rounded ? evaluate::rounded_weights(difference) : evaluate::same_weights(difference, layers);
}

int run(const Request& request, comm::Communicator& world) {
  config::Config config;  // of the layout and the precision; the rest is at its defaults
  config.layout = request.layout;
  config.train.precision = request.precision;
  const Session session{config, world};
  // Without files: this command writes nothing anywhere.
  const auto watchdog = comm::start_watchdog_beside(world, {}, config.watchdog.seconds);
  const OpenModel opened = open_model(session, request.model, request.adapter);
  std::optional<evaluate::ReferenceFile> reference;
  comm::on_all_ranks(world, [&] { reference.emplace(request.reference, opened.spec.vocabulary); });
  Model model(session, opened.spec, opened.source());
  comm::on_all_ranks(world, [&] { model.parameters.load_trainable(opened.source()); });
  core::log("verifying ", request.model, request.adapter.empty() ? "" : " with " + request.adapter, " against ",
            request.reference, " on ", model.grid.describe(), ", in ", core::spelling(request.precision));
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

Job verify(const Command& command, const std::vector<std::string>& arguments) {
  Request request = read_request(command, arguments);
  Job job;
  for (const config::Field& field : request.fields()) job.facts.push_back({"--" + field.name(), config::format(field)});
  job.run = [request](comm::Communicator& world) { return run(request, world); };
  return job;
}

}  // namespace caravan::commands
