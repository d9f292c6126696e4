// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "convert/options.hpp"
#include "convert/terms.hpp"
#include "family/model_spec.hpp"

namespace caravan::convert {

/// What the folder's tokenizer makes prompts of; none: there is no tokenizer. messages need a chat template.
enum class PromptOf : std::uint8_t { none, text, messages };

/// What an exported folder's README says.
struct ExportCard {
  family::ModelSpec spec;  // of the trained model, with LoRA
  core::DType dtype = core::DType::f32;
  ExportFormat format = ExportFormat::pesc;
  bool merged = true;              // false: the folder is a PEFT adapter for `base`
  std::string base;                // its folder, as the configuration names it
  std::string checkpoint;          // folder
  std::int64_t step = 0;           // of the checkpoint
  nlohmann::json settings;         // the run's: {"train": {"lr": 0.0002, …}, …}; not needed at step 0
  nlohmann::json packed;           // metadata of the file that was trained on; null where the checkpoint does not say
  License license;                 // of the base
  std::vector<std::string> terms;  // names of the files with the base's terms of use, which are in the folder
  std::string chat;                // what is to be said of the chat template, in sentences
  PromptOf prompt = PromptOf::messages;
  std::string tokenizer;            // the name of data.tokenizer; empty: the tokenizer is the base's
  std::optional<std::int32_t> eos;  // the token that answers were trained to end with, if known
  std::string program;              // version and build facts
  bool verified = false;
  std::string check;  // what was compared, and the result, in sentences
};

/// The text of README.md, with the head that the Hugging Face Hub reads.
std::string card_text(const ExportCard& card);

/// The text of the file UNVERIFIED, which marks a folder whose check found a difference.
std::string unverified_text(const ExportCard& card);

}  // namespace caravan::convert
