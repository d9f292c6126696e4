// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "family/model_spec.hpp"

namespace caravan::convert {

struct UpcycleRequest {
  std::string base;                 // Hugging Face folder
  family::ModelSpec spec;           // crafted: the base's with adapters and LoRA, see family::crafted
  std::filesystem::path folder;     // checkpoint to write, …/step-00000000
  std::uint64_t seed = 0;           // of the initial values
  std::string program;              // version and build facts, for the manifest
  std::string adapter{};            // PEFT folder whose tensors replace initial values; empty: none
  std::string tokenizer{};          // folder or tokenizer.model whose files step 0 gets; empty: the base's
  std::vector<std::string> kept{};  // sections of the configuration that base or adapter overrule: "upcycle", "lora"
};

struct UpcycleReport {
  bool already_there = false;  // the folder held this very checkpoint; nothing was written
  std::int64_t frozen = 0;     // elements
  std::int64_t trainable = 0;  // elements
  std::uint64_t bytes = 0;     // of all tensors, as stored
  double seconds = 0;
};

/// Collective. Writes the checkpoint of step 0: the base's tensors in the specification's dtype, the trainables'
/// initial values (Up and LoRA B zero, so that it computes exactly what the base does; the adapters of a base that has
/// them are kept, and what the PEFT folder holds is taken from there), and beside the tensors config.json of the
/// crafted model and the tokenizer's files. The ranks share the tensors; each holds one block of rows at a time.
/// The result does not depend on the number of ranks. Throws on all ranks (exit 2) when a tensor of the base or the
/// PEFT folder is missing, not expected, of another shape or not finite, when the folder holds a checkpoint that
/// another configuration, seed or base gave, or when another process is writing one there (see run::RunLock); exit 74
/// when the storage is full.
UpcycleReport upcycle(comm::Communicator& world, const UpcycleRequest& request);

}  // namespace caravan::convert
