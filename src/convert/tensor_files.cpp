// SPDX-License-Identifier: Apache-2.0
#include "convert/tensor_files.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/agreement.hpp"
#include "convert/byte_progress.hpp"
#include "core/json.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void write_file(const layout::TensorSource& source, double lora_scale, const TensorFile& target,
                ByteProgress& progress) {
  std::vector<io::SafetensorsTensor> header;
  for (const ExportTensor& tensor : target.tensors) header.push_back(tensor.target);
  // transformers refuses a file that does not say which library's layout it has.
  io::SafetensorsWriter file(target.path, header, {{"format", "pt"}});
  for (const ExportTensor& tensor : target.tensors) {
    make_tensor(source, tensor, lora_scale, [&](const void* data, std::size_t bytes) {
      file.write(data, bytes);
      progress.add(bytes);
    });
  }
  file.commit();
}

}  // namespace

std::uint64_t TensorFile::bytes() const {
  std::uint64_t sum = 0;
  for (const ExportTensor& tensor : tensors) sum += tensor.target.bytes();
  return sum;
}

std::vector<TensorFile> model_files(const fs::path& folder, std::vector<ExportTensor> tensors,
                                    std::uint64_t most_bytes) {
  std::vector<TensorFile> files(1);
  std::uint64_t filled = 0;
  for (ExportTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor.target.bytes();
    // A shard is closed before it would grow too large.
    if (!files.back().tensors.empty() && filled + bytes > most_bytes) {
      files.emplace_back();
      filled = 0;
    }
    filled += bytes;
    files.back().tensors.push_back(std::move(tensor));
  }
  for (std::size_t f = 0; f < files.size(); ++f) files[f].path = folder / shard_name(f, files.size());
  return files;
}

std::string index_text(const std::vector<TensorFile>& shards) {
  json weight_map = json::object();
  std::uint64_t bytes = 0;
  for (const TensorFile& shard : shards) {
    bytes += shard.bytes();
    for (const ExportTensor& tensor : shard.tensors) weight_map[tensor.target.name] = shard.path.filename().string();
  }
  const json index{{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(weight_map)}};
  return core::json_text(index, 2) + "\n";
}

ExportReport write_tensor_files(comm::Communicator& world, const layout::TensorSource& source, double lora_scale,
                                const std::vector<TensorFile>& files, const std::function<void()>& companions) {
  const auto ranks = static_cast<std::size_t>(world.size());
  const auto mine = [&](std::size_t f) { return f % ranks == static_cast<std::size_t>(world.rank()); };
  ExportReport report;
  report.shards = static_cast<std::int64_t>(files.size());
  std::uint64_t my_bytes = 0;
  for (std::size_t f = 0; f < files.size(); ++f) {
    report.tensors += static_cast<std::int64_t>(files[f].tensors.size());
    report.bytes += files[f].bytes();
    if (mine(f)) my_bytes += files[f].bytes();
    for (const ExportTensor& tensor : files[f].tensors) report.elements += layout::element_count(tensor.target.shape);
  }
  ByteProgress progress("export", my_bytes);
  comm::on_all_ranks(world, [&] {
    for (std::size_t f = 0; f < files.size(); ++f) {
      // Another node may not see yet that the folder was made; asking for it again makes it look.
      fs::create_directories(files[f].path.parent_path());
      if (mine(f)) write_file(source, lora_scale, files[f], progress);
    }
    if (world.rank() == 0) companions();
  });
  report.seconds = progress.seconds();
  return report;
}

}  // namespace caravan::convert
