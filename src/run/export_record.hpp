// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "checkpoint/manifest.hpp"

namespace caravan::run {

/// What an exported folder, a whole model or an adapter, was made from and how: its file export.json, of which
/// transformers, PEFT and vLLM know nothing. docs/export.md describes the fields.
struct ExportRecord {
  std::string checkpoint;  // checkpoint_identity()
  std::int64_t step = 0;
  std::string dtype;            // of the tensors, "bfloat16"
  std::string automatic_dtype;  // what export.dtype = auto stands for
  bool merge = true;
  std::string format;   // export.format
  std::string program;  // that wrote the folder, with its build facts

  /// "step 12 as bfloat16, with export.merge = true and export.format = pesc"
  std::string describe() const;
  /// Writes FOLDER/export.json. Throws with the path.
  void write(const std::filesystem::path& folder) const;
  /// Nothing when the folder has no such file, as those of earlier versions. Throws (exit 2) with the path when it is
  /// damaged, core::SystemError when the system does not give its bytes.
  static std::optional<ExportRecord> read(const std::filesystem::path& folder);
};

/// Checksum of what a checkpoint holds and of the frozen tensors that it goes with. The same wherever the run folder
/// is, and of a step 0 that was made again from the same.
std::string checkpoint_identity(const checkpoint::Manifest& manifest);

}  // namespace caravan::run
