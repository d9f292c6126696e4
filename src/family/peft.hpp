// SPDX-License-Identifier: Apache-2.0
// A PEFT folder of Hugging Face: adapter_config.json and adapter_model.safetensors, as peft 0.12's save_pretrained
// writes them (https://huggingface.co/docs/peft, "PEFT checkpoint format"). PEFT knows no mixtures, and refuses fields
// that it does not know, so ours lies below: pesc/config.json with model_type, num_experts, topk, adapter_dim and
// moe_scaling, and pesc/model.safetensors, or shards with an index, under the names of the crafted model's folder.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "family/model_spec.hpp"

namespace caravan::family {

/// The mixture's folder inside a PEFT folder.
inline constexpr const char* peft_mixture_folder = "pesc";

/// What a PEFT folder adds to a base; at least one of the two.
struct PeftAdapter {
  std::string folder;
  std::optional<Lora> lora{};
  std::optional<Pesc> pesc{};
  std::string model_type{};  // of the crafted model; with a mixture
};

/// Reads FOLDER/adapter_config.json and FOLDER/pesc/config.json; either may be absent. Throws (exit 2), naming file,
/// field and value, for anything but plain LoRA on the linears that lora_linears() names: DoRA, ranks of their own for
/// some linears, some layers only, trained biases or other modules, starts that change the base (PiSSA, OLoRA, LoftQ),
/// other kinds of adapters.
PeftAdapter read_peft_adapter(const std::string& folder);

/// The base with the folder's updates and, if it has one, the folder's mixture in place of the base's own. Throws (exit
/// 2) when the mixture was trained for another family.
ModelSpec adapted(ModelSpec base, const PeftAdapter& adapter);

/// The value of adapter_config.json, with the keys of peft 0.12. base: base_model_name_or_path.
nlohmann::json peft_config(const Lora& lora, const std::string& base, double dropout);

/// The value of pesc/config.json, for a model with a mixture. dropout: of the adapters in training, which transformers
/// goes on with; Caravan has a setting for it.
nlohmann::json peft_mixture_config(const ModelSpec& spec, double dropout);

/// The name in adapter_model.safetensors of our "….lora_A.weight" or "….lora_B.weight".
std::string peft_name(const std::string& name);

}  // namespace caravan::family
