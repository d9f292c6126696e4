// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "io/atomic_file.hpp"
#include "io/safetensors_header.hpp"

namespace caravan::io {

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const SafetensorsEntry*> order;
  for (const SafetensorsEntry& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return core::size_of(a->dtype) > core::size_of(b->dtype); });

  const auto bytes_of = [](const SafetensorsEntry& tensor) {
    return static_cast<std::size_t>(layout::element_count(tensor.shape)) * core::size_of(tensor.dtype);
  };
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const SafetensorsEntry* tensor : order) {
    CARAVAN_CHECK(!header.contains(tensor->name), "tensor ", tensor->name, " is given twice for ", path.string());
    const std::size_t end = offset + bytes_of(*tensor);
    header[tensor->name] = {{"dtype", safetensors_name_of(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", std::array<std::size_t, 2>{offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');

  std::array<char, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  AtomicFile file(path);
  file.write(length.data(), length.size());
  file.write(text);
  for (const SafetensorsEntry* tensor : order) file.write(tensor->data, bytes_of(*tensor));
  file.commit();
}

}  // namespace caravan::io
