// SPDX-License-Identifier: Apache-2.0
#include "convert/export.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/agreement.hpp"
#include "convert/byte_progress.hpp"
#include "family/families.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Shard {
  std::vector<ExportTensor> tensors;
  std::uint64_t bytes = 0;
};

// Tensors in order; a shard is closed before it would grow too large.
std::vector<Shard> cut_into_shards(std::vector<ExportTensor> tensors, std::uint64_t most) {
  std::vector<Shard> shards(1);
  for (ExportTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor.target.bytes();
    if (!shards.back().tensors.empty() && shards.back().bytes + bytes > most) shards.emplace_back();
    shards.back().bytes += bytes;
    shards.back().tensors.push_back(std::move(tensor));
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void write_shard(const ExportRequest& request, const Shard& shard, const fs::path& path, ByteProgress& progress) {
  std::vector<io::SafetensorsTensor> header;
  for (const ExportTensor& tensor : shard.tensors) header.push_back(tensor.target);
  // transformers refuses a file that does not say which library's layout it has.
  io::SafetensorsWriter file(path, header, {{"format", "pt"}});
  const double scale = request.spec.lora ? request.spec.lora->scale() : 0.0;
  for (const ExportTensor& tensor : shard.tensors) {
    make_tensor(request.source, tensor, scale, [&](const void* data, std::size_t bytes) {
      file.write(data, bytes);
      progress.add(bytes);
    });
  }
  file.commit();
}

std::string index_text(const std::vector<Shard>& shards, std::uint64_t bytes) {
  json weight_map = json::object();
  for (std::size_t s = 0; s < shards.size(); ++s) {
    for (const ExportTensor& tensor : shards[s].tensors) weight_map[tensor.target.name] = shard_name(s, shards.size());
  }
  const json index{{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(weight_map)}};
  return index.dump(2) + "\n";
}

void write_companions(const ExportRequest& request) {
  io::write_file_atomically(
      request.folder / "config.json",
      exported_config(io::read_file(request.companions / "config.json"), request.spec, request.dtype));
  for (const char* name : {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "generation_config.json"}) {
    const fs::path from = request.companions / name;
    if (fs::exists(from)) io::write_file_atomically(request.folder / name, io::read_file(from));
  }
}

}  // namespace

family::ModelSpec exported_spec(const family::ModelSpec& spec, core::DType dtype) {
  family::ModelSpec exported = spec;
  exported.lora.reset();
  exported.dtype = dtype;
  return exported;
}

std::string exported_config(const std::string& text, const family::ModelSpec& spec, core::DType dtype) {
  const family::ModelSpec exported = exported_spec(spec, dtype);
  json config = json::parse(family::crafted_config(text, exported));
  if (config.contains("caravan")) {
    config["caravan"].erase("lora");
    if (config["caravan"].empty()) config.erase("caravan");
  }
  config.erase("dtype");  // transformers 5's name of torch_dtype
  config["torch_dtype"] = core::name_of(dtype);
  const family::Family& family = family::family_of(spec.model_type);
  config["architectures"] = {family.architecture};
  if (!family.auto_config.empty()) {
    config["auto_map"] = {{"AutoConfig", family.auto_config}, {"AutoModelForCausalLM", family.auto_model}};
  }
  return config.dump(2) + "\n";
}

ExportReport write_model_folder(comm::Communicator& world, const ExportRequest& request) {
  const std::vector<Shard> shards = cut_into_shards(export_tensors(request.spec, request.dtype), request.shard_bytes);
  const auto ranks = static_cast<std::size_t>(world.size());
  const auto mine = [&](std::size_t s) { return s % ranks == static_cast<std::size_t>(world.rank()); };
  ExportReport report;
  report.shards = static_cast<std::int64_t>(shards.size());
  std::uint64_t my_bytes = 0;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    report.tensors += static_cast<std::int64_t>(shards[s].tensors.size());
    report.bytes += shards[s].bytes;
    if (mine(s)) my_bytes += shards[s].bytes;
  }
  report.elements = static_cast<std::int64_t>(report.bytes / core::size_of(request.dtype));

  ByteProgress progress("export", my_bytes);
  comm::on_all_ranks(world, [&] {
    // Another node may not see yet that the folder was made; asking for it again makes it look.
    fs::create_directories(request.folder);
    for (std::size_t s = 0; s < shards.size(); ++s) {
      if (mine(s)) write_shard(request, shards[s], request.folder / shard_name(s, shards.size()), progress);
    }
    if (world.rank() != 0) return;
    if (shards.size() > 1) {
      io::write_file_atomically(request.folder / "model.safetensors.index.json", index_text(shards, report.bytes));
    }
    write_companions(request);
  });
  report.seconds = progress.seconds();
  return report;
}

}  // namespace caravan::convert
