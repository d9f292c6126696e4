// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "checkpoint/manifest.hpp"
#include "checkpoint/reader.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "family/config_changes.hpp"
#include "family/parameters.hpp"
#include "io/atomic_file.hpp"
#include "report/reports.hpp"
#include "report/settings.hpp"
#include "report/tensor_tally.hpp"

namespace caravan::report {
namespace {

namespace fs = std::filesystem;
using checkpoint::Manifest;
using checkpoint::StoredTensor;
using nlohmann::json;

std::int64_t bytes_of(const StoredTensor& tensor) {
  return layout::element_count(tensor.shape) * static_cast<std::int64_t>(core::size_of(tensor.dtype));
}

/// A checkpoint with the step-0 checkpoint that has its frozen tensors, which may be itself.
struct Opened {
  fs::path folder;
  Manifest manifest;
  fs::path store_folder;
  std::optional<Manifest> store;  // nothing: the checkpoint has all tensors itself, or its store cannot be read
  std::optional<family::ModelSpec> spec;
};

Opened open(const fs::path& folder, Page& page) {
  Opened opened{folder, Manifest::read(folder), folder, {}, {}};
  if (opened.manifest.store) {
    opened.store_folder = (folder / opened.manifest.store->folder).lexically_normal();
    try {
      const checkpoint::CheckpointReader reader(folder);
      static_cast<void>(reader.tensor_names());  // compares the store's manifest with the recorded one
      opened.store = Manifest::read(opened.store_folder);
    } catch (const core::Error& error) {
      if (error.code() != core::ExitCode::bad_input) throw;
      page.problem(error.what());
      return opened;
    }
  }
  if (fs::exists(opened.store_folder / "config.json")) {
    try {
      opened.spec = family::read_model_spec(opened.store_folder.string());
    } catch (const core::Error& error) {
      if (error.code() != core::ExitCode::bad_input) throw;
      page.problem(error.what());
    }
  }
  return opened;
}

std::string files_text(const Manifest& manifest) {
  std::int64_t bytes = 0;
  for (const auto& [shard, size] : manifest.shard_bytes) bytes += size;
  const std::size_t shards = manifest.shard_bytes.size();
  return core::concat(shards, shards == 1 ? " shard, " : " shards, ",
                      core::format_bytes(static_cast<std::uint64_t>(bytes)), ", and master.h5 over ",
                      shards == 1 ? "it" : "them");
}

void write_training_state(const json& state, Page& page) {
  if (const json progress = state.value("progress", json::object()); !progress.empty()) {
    const auto number = [&](const char* key) { return grouped(progress.value(key, std::int64_t{0})); };
    page.line("progress", core::concat("epoch ", number("epoch"), ", ", number("index"), " of its sequences used; ",
                                       number("tokens"), " tokens, ", number("response_tokens"), " of them responses"));
  }
  if (const std::string data = state.value("data", ""); !data.empty()) {
    page.line("data", "the packed file with fingerprint " + data);
  }
  if (const json upcycled = state.value("upcycle", json::object()); !upcycled.empty()) {
    page.line("made by", core::concat("upcycle, seed ", core::json_text(upcycled.value("seed", json())),
                                      ", from a base with fingerprint ", upcycled.value("base", "unknown")));
  }
}

std::string precision_of(const Opened& opened) {
  std::vector<std::string> parts;
  const json train = opened.manifest.state.value("config", json::object()).value("train", json::object());
  if (train.contains("precision")) parts.push_back("computed in " + train.value("precision", ""));
  if (opened.spec) parts.push_back("frozen tensors in " + std::string(core::name_of(opened.spec->dtype)));
  return core::join(parts, ", ");
}

void write_facts(const Opened& opened, Page& page) {
  const Manifest& manifest = opened.manifest;
  const json document = core::parse_json(io::read_file(opened.folder / "manifest.json"));
  page.line("step", grouped(manifest.step));
  page.line("format version", core::json_text(document.at("version")));
  page.line("written by", manifest.program.empty() ? "an unnamed program" : manifest.program);
  page.line("layout", core::concat(manifest.layout.world, manifest.layout.world == 1 ? " rank" : " ranks", ", TP ",
                                   manifest.layout.tp, ", EP ", manifest.layout.ep));
  page.line("files", files_text(manifest));
  if (manifest.store) page.line("frozen tensors", "in " + opened.store_folder.string());
  if (opened.spec) page.line("model", describe(*opened.spec));
  if (const std::string precision = precision_of(opened); !precision.empty()) page.line("precision", precision);
  write_training_state(manifest.state, page);
}

void tally(const Opened& opened, Page& page) {
  TensorTally tally;
  const auto add = [&](const std::string& name, const StoredTensor& tensor) {
    tally.add(name, tensor.shape, std::string(core::name_of(tensor.dtype)), bytes_of(tensor));
  };
  for (const auto& [name, tensor] : opened.manifest.tensors) add(name, tensor);
  if (opened.store) {
    for (const auto& [name, tensor] : opened.store->tensors) {
      if (!opened.manifest.tensors.contains(name)) add(name, tensor);
    }
    tally.place(TensorKind::base, "in " + opened.store_folder.filename().string());
  }
  page.line("parameters", tally.parameters());
  tally.write(page);
}

void list_tensors(const std::string& heading, const Manifest& manifest, const Manifest* shadowed_by, Page& page) {
  Rows rows{{"tensor", "shape", "stored as", "size", "lies in"}};
  for (const auto& [name, tensor] : manifest.tensors) {
    if (shadowed_by != nullptr && shadowed_by->tensors.contains(name)) continue;
    const auto where = [&name = name](const checkpoint::StoredPiece& piece) {  // clang 14 captures no plain binding
      return piece.dataset == name ? piece.shard : piece.shard + ", dataset " + piece.dataset;
    };
    const bool one = tensor.pieces.size() == 1;
    rows.push_back({name, layout::to_string(tensor.shape), std::string(core::name_of(tensor.dtype)),
                    core::format_bytes(static_cast<std::uint64_t>(bytes_of(tensor))),
                    one ? where(tensor.pieces.front()) : core::concat(tensor.pieces.size(), " pieces")});
    if (one) continue;
    for (const auto& piece : tensor.pieces) {
      rows.push_back(
          {"  at " + layout::to_string(piece.part.offset), layout::to_string(piece.part.extent), "", "", where(piece)});
    }
  }
  page.table(heading, rows, {3});
}

// Tensors of the model that neither the checkpoint nor its store has in the right shape.
std::vector<std::string> model_problems(const Opened& opened) {
  std::vector<std::string> problems;
  const auto compare = [&](const std::string& name, const layout::Shape& shape, const Manifest& manifest) {
    const auto found = manifest.tensors.find(name);
    if (found == manifest.tensors.end()) {
      problems.push_back(core::concat(opened.folder.string(), ": the model's tensor ", name, " is missing"));
    } else if (found->second.shape != shape) {
      problems.push_back(core::concat(opened.folder.string(), ": tensor ", name, " has shape ",
                                      layout::to_string(found->second.shape), ", the model's has ",
                                      layout::to_string(shape)));
    }
  };
  for (const layout::ParameterSpec& parameter : family::parameter_specs(*opened.spec)) {
    const bool elsewhere = opened.store && !parameter.trainable;
    compare(parameter.name, parameter.shape, elsewhere ? *opened.store : opened.manifest);
    if (!parameter.trainable || opened.manifest.step == 0) continue;
    for (const char* moment : {"optimizer/exp_avg/", "optimizer/exp_avg_sq/"}) {
      compare(moment + parameter.name, parameter.shape, opened.manifest);
    }
  }
  return problems;
}

// config.json against what upcycle recorded of it, which older checkpoints of step 0 lack.
void check_configuration(const Opened& opened, Page& page) {
  const json& state = (opened.store ? *opened.store : opened.manifest).state;
  const json recorded = state.value("upcycle", json::object()).value("config", json());
  const fs::path file = opened.store_folder / "config.json";
  if (recorded.is_null()) return;
  const std::vector<std::string> changes = family::config_changes(opened.store_folder.string(), recorded);
  for (const std::string& change : changes) page.problem(file.string() + ": " + change);
  if (changes.empty()) page.checked("config.json is the one that upcycle wrote");
}

void check(const Opened& opened, bool verify, Page& page) {
  page.checked("manifest.json: checksum, and its pieces cover every tensor once");
  if (opened.store) page.checked("the manifest of " + opened.store_folder.string() + " is the recorded one");
  if (opened.spec) {
    check_configuration(opened, page);
    const std::vector<std::string> problems = model_problems(opened);
    for (const std::string& problem : problems) page.problem(problem);
    if (problems.empty()) page.checked("every tensor of the model is there in its shape");
  }
  const std::vector<std::string> sizes = checkpoint::shard_problems(opened.folder, opened.manifest);
  if (!verify) {
    for (const std::string& problem : sizes) page.problem(problem);
    if (sizes.empty()) page.checked("every shard is there in its full size");
    page.unchecked("the tensors' bytes; --verify compares them with their checksums");
    return;
  }
  const std::vector<std::string> reported = page.problems();
  std::vector<std::string> problems = checkpoint::CheckpointReader(opened.folder).verify();
  std::erase_if(problems, [&](const std::string& problem) {  // that of the store is known since open()
    return std::find(reported.begin(), reported.end(), problem) != reported.end();
  });
  if (opened.store) {
    const std::vector<std::string> of_store = checkpoint::CheckpointReader(opened.store_folder).verify();
    problems.insert(problems.end(), of_store.begin(), of_store.end());
  }
  for (const std::string& problem : problems) page.problem(problem);
  if (problems.empty()) page.checked("every byte of every tensor, by its checksum");
}

}  // namespace

void report_checkpoint(const fs::path& folder, const Request& request, Page& page) {
  page.title("checkpoint", folder.string());
  const Opened opened = open(folder, page);
  write_facts(opened, page);
  tally(opened, page);
  const json settings = opened.manifest.state.value("config", json::object());
  if (!settings.empty()) write_settings("settings it was saved with", settings, request.default_settings, page);
  if (request.tensors) {
    list_tensors("tensors", opened.manifest, nullptr, page);
    if (opened.store) {
      list_tensors("tensors in " + opened.store_folder.string(), *opened.store, &opened.manifest, page);
    }
  }
  check(opened, request.verify, page);
}

}  // namespace caravan::report
