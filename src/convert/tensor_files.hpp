// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "convert/export_tensors.hpp"

namespace caravan::convert {

/// Shards of a folder are no larger, unless one tensor is: what transformers writes by default.
inline constexpr std::uint64_t default_shard_bytes = 5'000'000'000;

/// A safetensors file to write.
struct TensorFile {
  std::filesystem::path path;
  std::vector<ExportTensor> tensors;

  std::uint64_t bytes() const;
};

struct ExportReport {
  std::int64_t tensors = 0;
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;  // of the tensors
  std::int64_t shards = 0;  // files that hold them
  double seconds = 0;
};

/// folder/model.safetensors, or shards folder/model-0000i-of-0000n.safetensors. The tensors keep their order.
std::vector<TensorFile> model_files(const std::filesystem::path& folder, std::vector<ExportTensor> tensors,
                                    std::uint64_t most_bytes);

/// The text of model.safetensors.index.json, which stands beside more than one shard.
std::string index_text(const std::vector<TensorFile>& shards);

/// Collective. The ranks share the files; their bytes do not depend on how many ranks there are. `companions` runs on
/// rank 0, which writes the files without tensors. All tensors are of one element type; lora_scale: of what is merged.
/// Throws on all ranks (exit 2) when a tensor is missing, damaged, not finite, or too large for the element type; exit
/// 74 when the storage is full.
ExportReport write_tensor_files(comm::Communicator& world, const layout::TensorSource& source, double lora_scale,
                                const std::vector<TensorFile>& files, const std::function<void()>& companions);

}  // namespace caravan::convert
