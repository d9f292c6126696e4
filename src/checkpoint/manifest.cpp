// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.hpp"

#include <algorithm>
#include <cerrno>

#include "core/checksum.hpp"
#include "core/json.hpp"
#include "io/atomic_file.hpp"

namespace caravan::checkpoint {
namespace {

using nlohmann::json;

constexpr const char* kind = "caravan checkpoint";
constexpr const char* master = "master.h5";

// The document without its own checksum: sorted keys, no spaces.
std::string checksum_of(const json& document) {
  json rest = document;
  rest.erase("checksum");
  const std::string text = core::json_text(rest);
  return core::checksum(text.data(), text.size());
}

json to_json(const Manifest& manifest) {
  json tensors = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json pieces = json::array();
    for (const StoredPiece& piece : tensor.pieces) pieces.push_back(to_json(piece));
    tensors[name] = {{"shape", tensor.shape}, {"dtype", core::name_of(tensor.dtype)}, {"pieces", std::move(pieces)}};
  }
  json document = {
      {"kind", kind},
      {"version", Manifest::newest_version},
      {"program", manifest.program},
      {"step", manifest.step},
      {"layout", {{"world", manifest.layout.world}, {"tp", manifest.layout.tp}, {"ep", manifest.layout.ep}}},
      {"tensors", std::move(tensors)},
      {"shards", manifest.shard_bytes},
      {"master", {{"file", master}, {"bytes", manifest.master_bytes}}},
      {"state", manifest.state}};
  if (manifest.store) {
    document["store"] = {{"folder", manifest.store->folder.string()}, {"manifest", manifest.store->manifest_hash}};
    if (!manifest.store->content.empty()) document["store"]["content"] = manifest.store->content;
  }
  return document;
}

Manifest from_json(const json& document) {
  Manifest manifest;
  manifest.step = document.at("step").get<std::int64_t>();
  manifest.program = document.at("program").get<std::string>();
  const json& layout = document.at("layout");
  manifest.layout = {layout.at("world").get<int>(), layout.at("tp").get<int>(), layout.at("ep").get<int>()};
  for (const auto& [name, value] : document.at("tensors").items()) {
    StoredTensor tensor;
    tensor.shape = value.at("shape").get<layout::Shape>();
    tensor.dtype = core::dtype_from_name(value.at("dtype").get<std::string>());
    for (const json& piece : value.at("pieces")) tensor.pieces.push_back(piece_from_json(piece));
    manifest.tensors.emplace(name, std::move(tensor));
  }
  manifest.shard_bytes = document.at("shards").get<std::map<std::string, std::int64_t>>();
  manifest.master_bytes = document.at("master").at("bytes").get<std::int64_t>();
  if (document.contains("store")) {
    manifest.store = StoreReference{document.at("store").at("folder").get<std::string>(),
                                    document.at("store").at("manifest").get<std::string>(),
                                    document.at("store").value("content", "")};
  }
  manifest.state = document.at("state");
  return manifest;
}

void check_header(const json& document, const std::string& where) {
  if (!document.is_object() || document.value("kind", json()) != kind) {
    core::bad_input(where, ": not the manifest of a Caravan checkpoint");
  }
  const json version = document.value("version", json());
  if (!version.is_number_integer() || version < 1) core::bad_input(where, ": the format version is missing");
  if (version > Manifest::newest_version) {
    throw NewerVersion(core::concat(where, ": format version ", version.get<std::int64_t>(),
                                    ", but this program reads versions up to ", Manifest::newest_version,
                                    "; use the program that wrote it or a newer one"));
  }
  if (document.value("checksum", json()) != checksum_of(document)) {
    core::bad_input(where, ": its checksum differs: the file is damaged or was edited");
  }
}

}  // namespace

json to_json(const StoredPiece& piece) {
  return {{"offset", piece.part.offset}, {"extent", piece.part.extent},    {"shard", piece.shard},
          {"dataset", piece.dataset},    {"block_rows", piece.block_rows}, {"hashes", piece.hashes}};
}

StoredPiece piece_from_json(const json& value) {
  return {{value.at("offset").get<layout::Shape>(), value.at("extent").get<layout::Shape>()},
          value.at("shard").get<std::string>(),
          value.at("dataset").get<std::string>(),
          value.at("block_rows").get<std::int64_t>(),
          value.at("hashes").get<std::vector<std::string>>()};
}

std::string Manifest::to_text() const {
  json document = to_json(*this);
  document["checksum"] = checksum_of(document);
  return core::json_text(document, 1) + "\n";
}

Manifest Manifest::read(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "manifest.json";
  if (!io::size_of_file(path)) {
    core::bad_input(folder.string(), " is not a checkpoint: it has no manifest.json",
                    std::filesystem::is_directory(folder) ? " (a save that was not finished)" : "");
  }
  const json document = core::parse_json_if_valid(io::read_file(path));
  if (document.is_discarded()) core::bad_input(path.string(), ": not valid JSON: the file is damaged");
  check_header(document, path.string());
  Manifest manifest;
  try {
    manifest = from_json(document);
  } catch (const json::exception& error) {
    core::bad_input(path.string(), ": ", error.what());
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    const std::string problem = coverage_problem(tensor);
    if (!problem.empty()) core::bad_input(path.string(), ": tensor ", name, ": ", problem);
    for (const StoredPiece& piece : tensor.pieces) {
      if (!manifest.shard_bytes.contains(piece.shard)) {
        core::bad_input(path.string(), ": tensor ", name, ": its shard ", piece.shard, " is not listed");
      }
    }
  }
  return manifest;
}

std::string content_of(const Manifest& manifest) {
  json tensors = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<json> pieces;
    for (const StoredPiece& piece : tensor.pieces) {
      json entry = to_json(piece);
      entry.erase("shard");
      entry.erase("dataset");
      pieces.push_back(std::move(entry));
    }
    std::sort(pieces.begin(), pieces.end());  // the order is that of the ranks
    tensors[name] = {{"shape", tensor.shape}, {"dtype", core::name_of(tensor.dtype)}, {"pieces", pieces}};
  }
  // Sorted keys, no spaces.
  const std::string text =
      core::json_text(json{{"upcycle", manifest.state.value("upcycle", json())}, {"tensors", std::move(tensors)}});
  return core::checksum(text.data(), text.size());
}

StoreReference identify_store(const std::filesystem::path& folder) {
  const Manifest manifest = Manifest::read(folder);
  const std::string text = io::read_file(folder / "manifest.json");
  return {folder, core::checksum(text.data(), text.size()), content_of(manifest)};
}

bool is_same_store(const StoreReference& recorded, const StoreReference& now) {
  return recorded.content.empty() ? recorded.manifest_hash == now.manifest_hash : recorded.content == now.content;
}

std::string coverage_problem(const StoredTensor& tensor) {
  const auto describe = [](const layout::Rectangle& part) {
    return layout::to_string(part.extent) + " at " + layout::to_string(part.offset);
  };
  std::vector<const StoredPiece*> order;
  std::int64_t covered = 0;
  for (const StoredPiece& piece : tensor.pieces) {
    const layout::Rectangle& part = piece.part;
    bool inside =
        !tensor.shape.empty() && part.extent.size() == tensor.shape.size() && part.offset.size() == tensor.shape.size();
    for (std::size_t d = 0; inside && d < tensor.shape.size(); ++d) {
      inside = part.offset[d] >= 0 && part.extent[d] > 0 && part.extent[d] <= tensor.shape[d] &&
               part.offset[d] <= tensor.shape[d] - part.extent[d];
    }
    if (!inside) return "the piece " + describe(part) + " is not inside " + layout::to_string(tensor.shape);
    if (piece.block_rows < 1 ||
        static_cast<std::int64_t>(piece.hashes.size()) != (part.extent[0] - 1) / piece.block_rows + 1) {
      return "the piece " + describe(part) + " has a wrong number of checksums";
    }
    covered += part.count();
    order.push_back(&piece);
  }
  // Only pieces whose rows meet can overlap: sorted by first row, those are neighbours.
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->part.offset[0] < b->part.offset[0]; });
  for (std::size_t i = 0; i < order.size(); ++i) {
    const layout::Rectangle& part = order[i]->part;
    for (std::size_t j = i + 1; j < order.size() && order[j]->part.offset[0] < part.offset[0] + part.extent[0]; ++j) {
      if (layout::intersect(part, order[j]->part)) {
        return "the pieces " + describe(part) + " and " + describe(order[j]->part) + " overlap";
      }
    }
  }
  if (covered != layout::element_count(tensor.shape)) {
    return core::concat("its pieces cover ", covered, " of ", layout::element_count(tensor.shape), " elements");
  }
  return {};
}

bool is_damage(const core::Error& error) {
  if (error.code() != core::ExitCode::bad_input || dynamic_cast<const NewerVersion*>(&error) != nullptr) return false;
  const auto* refused = dynamic_cast<const core::SystemError*>(&error);
  return refused == nullptr || refused->system_error() == ENOENT;
}

std::optional<std::string> shard_problem(const std::filesystem::path& folder, const Manifest& manifest,
                                         const std::string& shard) {
  const std::filesystem::path path = folder / shard;
  const std::int64_t expected = manifest.shard_bytes.at(shard);
  const std::optional<std::int64_t> bytes = io::size_of_file(path);
  if (!bytes) return path.string() + " is missing";
  if (*bytes != expected) {
    return core::concat(path.string(), " has ", *bytes, " bytes instead of ", expected, ": it is truncated or damaged");
  }
  return std::nullopt;
}

std::vector<std::string> shard_problems(const std::filesystem::path& folder, const Manifest& manifest) {
  std::vector<std::string> problems;
  for (const auto& [shard, bytes] : manifest.shard_bytes) {
    if (auto problem = shard_problem(folder, manifest, shard)) problems.push_back(std::move(*problem));
  }
  return problems;
}

}  // namespace caravan::checkpoint
