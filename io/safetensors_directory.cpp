// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"
#include "io/copy_converted.hpp"
#include "io/safetensors.hpp"

namespace caravan::io {

namespace fs = std::filesystem;

SafetensorsDirectory::SafetensorsDirectory(const fs::path& folder) : folder_(folder) {
  if (!fs::is_directory(folder)) core::bad_input(folder.string(), " is not a folder with a Hugging Face model");
  if (fs::exists(folder / "model.safetensors")) {
    add_file(folder / "model.safetensors");
  } else if (fs::exists(folder / "model.safetensors.index.json")) {
    open_shards();
  } else if (fs::exists(folder / "pytorch_model.bin") || fs::exists(folder / "pytorch_model.bin.index.json")) {
    core::bad_input(folder.string(),
                    ": the weights are in pytorch_model.bin only, a format that can run code when it is read; convert "
                    "them with transformers' save_pretrained(safe_serialization=True)");
  } else {
    core::bad_input(folder.string(), ": there is neither model.safetensors nor model.safetensors.index.json");
  }
}

void SafetensorsDirectory::open_shards() {
  const fs::path index = folder_ / "model.safetensors.index.json";
  const nlohmann::json document = core::parse_json_if_valid(read_file(index));
  if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object()) {
    core::bad_input(index.string(), ": not a JSON object with an object \"weight_map\"");
  }
  std::map<std::string, std::string> weight_map;
  std::set<std::string> shards;
  std::vector<std::string> missing;
  for (const auto& [name, shard] : document["weight_map"].items()) {
    if (!shard.is_string()) core::bad_input(index.string(), ": weight_map of ", name, " is not a file name");
    const std::string file = shard.get<std::string>();
    if (file.empty() || fs::path(file).filename() != fs::path(file) || file == "..") {
      core::bad_input(index.string(), ": weight_map of ", name, ": \"", file, "\" is not a plain file name");
    }
    weight_map[name] = file;
    if (shards.insert(file).second && !fs::exists(folder_ / file)) missing.push_back(file);
  }
  if (!missing.empty()) {
    core::bad_input(folder_.string(), ": ", core::join(missing), " named in ", index.filename().string(),
                    missing.size() == 1 ? " is" : " are", " missing; download the model again");
  }
  for (const std::string& shard : shards) add_file(folder_ / shard);
  for (const auto& [name, shard] : weight_map) {
    const auto found = file_index_.find(name);
    if (found == file_index_.end() || files_[found->second].path().filename() != shard) {
      core::bad_input(index.string(), ": tensor ", name, " should be in ", shard, " but is not");
    }
  }
}

void SafetensorsDirectory::add_file(const fs::path& path) {
  files_.emplace_back(path);
  for (const std::string& name : files_.back().names()) {
    const auto [place, fresh] = file_index_.emplace(name, files_.size() - 1);
    if (!fresh) {
      core::bad_input(folder_.string(), ": tensor ", name, " is in two shards, ",
                      files_[place->second].path().filename().string(), " and ", path.filename().string());
    }
  }
}

std::vector<std::string> SafetensorsDirectory::names() const {
  std::vector<std::string> result;
  for (const auto& [name, file] : file_index_) result.push_back(name);
  return result;
}

const SafetensorsFile& SafetensorsDirectory::file_of(const std::string& name) const {
  const auto found = file_index_.find(name);
  if (found == file_index_.end()) {
    const std::string nearest = core::nearest_match(name, names());
    core::bad_input(folder_.string(), ": there is no tensor ", name,
                    nearest.empty() ? "" : "; the nearest name is " + nearest);
  }
  return files_[found->second];
}

void SafetensorsDirectory::read(const std::string& name, const layout::Rectangle& part, core::DType dtype,
                                void* target) const {
  const SafetensorsFile& file = file_of(name);
  const Info found = file.info(name);
  const layout::Rectangle all = layout::whole(found.shape);
  if (part.count() == 0) return;
  CARAVAN_CHECK(part.extent.size() == found.shape.size() && layout::intersect(part, all) == part, name, ": the part ",
                layout::to_string(part.extent), " at ", layout::to_string(part.offset), " is outside of ",
                layout::to_string(found.shape));
  if (!convertible(found.dtype, dtype)) {
    core::bad_input(file.path().string(), ": tensor ", name, " holds ", core::name_of(found.dtype), ", but ",
                    core::name_of(dtype), " is needed");
  }
  copy_converted(part, all, file.data(name), found.dtype, part, target, dtype);
}

}  // namespace caravan::io
