// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "comm/communicator.hpp"
#include "convert/companions.hpp"
#include "convert/tensor_files.hpp"

namespace caravan::convert {

struct ExportRequest {
  const layout::TensorSource& source;  // holds every tensor of `spec`
  family::ModelSpec spec;              // of the trained model, with LoRA
  CompanionSources companions;         // the folder with config.json, and the tokenizer
  core::DType dtype = core::DType::f32;
  std::filesystem::path folder;  // to write into; it exists
  std::uint64_t shard_bytes = default_shard_bytes;
};

/// The model that the folder describes: LoRA is in its weights.
family::ModelSpec exported_spec(const family::ModelSpec& spec, core::DType dtype);

/// The text of config.json: the checkpoint's (`text`) with the exported element type, without caravan.lora, and with an
/// auto_map that names the family's official class, where one is published.
std::string exported_config(const std::string& text, const family::ModelSpec& spec, core::DType dtype);

/// Collective. Writes config.json, model.safetensors or shards with model.safetensors.index.json, and the tokenizer's
/// files. The ranks share the shards; the files' bytes do not depend on how many ranks there are.
/// Throws on all ranks (exit 2) when a tensor is missing, damaged, not finite, or too large for the element type; exit
/// 74 when the storage is full.
ExportReport write_model_folder(comm::Communicator& world, const ExportRequest& request);

}  // namespace caravan::convert
