// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "comm/communicator.hpp"
#include "convert/tensor_files.hpp"

namespace caravan::convert {

struct AdapterRequest {
  const layout::TensorSource& source;  // holds the trainables of `spec`
  family::ModelSpec spec;              // of the trained model, with LoRA
  std::string base;                    // base_model_name_or_path
  double dropout = 0;                  // of LoRA in training
  double expert_dropout = 0;           // of the adapters
  core::DType dtype = core::DType::f32;
  std::filesystem::path folder;                     // to write into; it exists
  std::uint64_t shard_bytes = default_shard_bytes;  // of the mixture
  std::filesystem::path tokenizer{};                // folder or SentencePiece file to copy; empty: none
  std::string chat_template{};                      // that the model was trained with; empty: not known
  std::filesystem::path terms{};                    // folder with LICENSE and the like; empty: none
};

/// Throws (exit 2) unless the model has something that an adapter can hold: low-rank updates or a mixture.
void require_adapter(const family::ModelSpec& spec);

/// Collective. Writes what was trained as a PEFT folder (see family/peft.hpp): adapter_config.json with
/// adapter_model.safetensors if the model has LoRA, pesc/ if it has a mixture, with the classes that compute it,
/// the tokenizer with the chat template of the training, and the base's terms of use. The ranks share the files. Throws
/// as write_tensor_files() and require_adapter() do.
ExportReport write_adapter_folder(comm::Communicator& world, const AdapterRequest& request);

}  // namespace caravan::convert
