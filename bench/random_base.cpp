// SPDX-License-Identifier: Apache-2.0
// random_base CONFIG.json FOLDER: a dense model of this configuration with random bfloat16 weights, as large as the
// real one, to measure with. Weights have a magnitude of 2^-6 to 2^-5, norms are 1.
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <vector>

#include "core/error.hpp"
#include "core/random.hpp"
#include "family/foreign_names.hpp"
#include "family/parameters.hpp"
#include "io/safetensors_writer.hpp"

namespace {

using namespace caravan;
namespace fs = std::filesystem;

constexpr std::size_t block_values = 1 << 22;

void fill(std::vector<std::uint16_t>& block, std::uint64_t key, std::uint64_t first) {
  for (std::size_t i = 0; i < block.size(); i += 4) {
    std::uint64_t bits = core::mix64(key ^ ((first + i) / 4));
    for (std::size_t j = i; j < std::min(i + 4, block.size()); ++j, bits >>= 16) {
      block[j] = static_cast<std::uint16_t>((bits & 0x807f) | 0x3c80);
    }
  }
}

void write_tensor(io::SafetensorsWriter& file, const io::SafetensorsTensor& tensor) {
  const bool norm = tensor.name.find("norm") != std::string::npos;
  const std::uint64_t key = core::hash_name(tensor.name.data(), tensor.name.size());
  const auto count = static_cast<std::uint64_t>(layout::element_count(tensor.shape));
  std::vector<std::uint16_t> block;
  for (std::uint64_t first = 0; first < count; first += block_values) {
    block.assign(static_cast<std::size_t>(std::min<std::uint64_t>(block_values, count - first)), 0x3f80);
    if (!norm) fill(block, key, first);
    file.write(block.data(), block.size() * sizeof(std::uint16_t));
  }
}

void make(const fs::path& config, const fs::path& folder) {
  fs::create_directories(folder);
  fs::copy_file(config, folder / "config.json", fs::copy_options::overwrite_existing);
  const family::ModelSpec spec = family::read_model_spec(folder.string());
  std::vector<io::SafetensorsTensor> tensors;
  for (const layout::ParameterSpec& parameter : family::parameter_specs(spec)) {
    for (const family::ForeignPart& part : family::hugging_face_parts(spec, parameter)) {
      tensors.push_back({part.name, part.shape, core::DType::bf16});
    }
  }
  io::SafetensorsWriter file(folder / "model.safetensors", tensors, {{"format", "pt"}});
  for (const io::SafetensorsTensor& tensor : tensors) write_tensor(file, tensor);
  file.commit();
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: random_base CONFIG.json FOLDER\n";
    return 2;
  }
  try {
    make(arguments[1], arguments[2]);
  } catch (const core::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  }
  return 0;
}
