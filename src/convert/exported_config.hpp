// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "convert/options.hpp"
#include "core/dtype.hpp"
#include "family/model_spec.hpp"

namespace caravan::convert {

/// What an exported folder's config.json says beside the checkpoint's.
struct ExportedAs {
  core::DType dtype = core::DType::f32;
  ExportFormat format = ExportFormat::pesc;
  double adapter_dropout = 0;  // of the training
};

/// The model that the folder describes: LoRA is in its weights.
family::ModelSpec exported_spec(const family::ModelSpec& spec, const ExportedAs& as);

/// The text of config.json: the checkpoint's (`text`) with the exported element type and without caravan.lora, in the
/// words that transformers 4 and 5 read alike, with the architecture and auto_map of the format's classes.
std::string exported_config(const std::string& text, const family::ModelSpec& spec, const ExportedAs& as);

}  // namespace caravan::convert
