// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "comm/communicator.hpp"
#include "convert/companions.hpp"
#include "convert/exported_config.hpp"
#include "convert/tensor_files.hpp"

namespace caravan::convert {

struct ExportRequest {
  const layout::TensorSource& source;  // holds every tensor of `spec`
  family::ModelSpec spec;              // of the trained model, with LoRA
  CompanionSources companions;         // the folder with config.json, and the tokenizer
  ExportedAs as;
  std::filesystem::path folder;  // to write into; it exists
  std::uint64_t shard_bytes = default_shard_bytes;
  std::string chat_template{};    // that the model was trained with; empty: not known
  std::filesystem::path terms{};  // folder with LICENSE and the like; empty: none
};

/// Collective. Writes config.json, model.safetensors or shards with model.safetensors.index.json, the tokenizer's
/// files with the chat template, what the base's folder says on its terms of use, and the classes of
/// ExportFormat::pesc. The ranks share the shards; the files' bytes do not depend on how many ranks there are. Throws
/// on all ranks (exit 2) when a tensor is missing, damaged, not finite, or too large for the element type; exit 74 when
/// the storage is full.
ExportReport write_model_folder(comm::Communicator& world, const ExportRequest& request);

}  // namespace caravan::convert
