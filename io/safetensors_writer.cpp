// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_writer.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"

namespace caravan::io {

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const std::vector<SafetensorsTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), path_(path.string()) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const SafetensorsTensor& tensor : tensors) {
    CARAVAN_CHECK(!header.contains(tensor.name), "tensor ", tensor.name, " is given twice for ", path_);
    const std::size_t begin = missing_;
    missing_ += tensor.bytes();
    header[tensor.name] = {{"dtype", safetensors_name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", std::array<std::size_t, 2>{begin, missing_}}};
  }
  std::string text = core::json_text(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  std::array<char, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  file_.write(length.data(), length.size());
  file_.write(text);
}

void SafetensorsWriter::write(const void* data, std::size_t bytes) {
  CARAVAN_CHECK(bytes <= missing_, path_, " gets more bytes than its header says");
  file_.write(data, bytes);
  missing_ -= bytes;
}

void SafetensorsWriter::commit() {
  CARAVAN_CHECK(missing_ == 0, path_, " lacks ", missing_, " bytes that its header says");
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> order = tensors;
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return core::size_of(a.dtype) > core::size_of(b.dtype); });
  std::vector<SafetensorsTensor> header;
  header.reserve(order.size());
  for (const SafetensorsEntry& tensor : order) header.push_back({tensor.name, tensor.shape, tensor.dtype});
  SafetensorsWriter file(path, header, metadata);
  for (std::size_t i = 0; i < order.size(); ++i) file.write(order[i].data, header[i].bytes());
  file.commit();
}

}  // namespace caravan::io
