// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include "core/error.hpp"
#include "core/text.hpp"
#include "io/safetensors_header.hpp"

namespace caravan::io {

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  SafetensorsHeader header = parse_safetensors_header(file_);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : tensors_) result.push_back(name);
  return result;
}

layout::TensorSource::Info SafetensorsFile::info(const std::string& name) const {
  const Entry& found = entry(name);
  const std::optional<core::DType> dtype = dtype_from_safetensors(found.dtype);
  if (!dtype) {
    core::bad_input(path().string(), ": tensor ", name, " (byte ", found.begin, "): element type ", found.dtype,
                    " is not supported; known are F32, BF16, F16, F64, I64, I32 and U8");
  }
  return {found.shape, *dtype};
}

const std::byte* SafetensorsFile::data(const std::string& name) const { return file_.data() + entry(name).begin; }

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    const std::string nearest = core::nearest_match(name, names());
    core::bad_input(path().string(), ": there is no tensor ", name,
                    nearest.empty() ? "" : "; the nearest name is " + nearest);
  }
  return found->second;
}

}  // namespace caravan::io
