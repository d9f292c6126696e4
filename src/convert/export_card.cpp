// SPDX-License-Identifier: Apache-2.0
#include "convert/export_card.hpp"

#include <filesystem>

#include "core/error.hpp"
#include "core/text.hpp"
#include "family/families.hpp"

namespace caravan::convert {
namespace {

using core::concat;
using nlohmann::json;

// "- name: value", when the run's configuration has it. Of a path only the file's name, since folders are private.
std::string setting_line(const json& settings, const char* section, const char* key, bool path = false) {
  const json value = settings.value(section, json::object()).value(key, json());
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (value.is_null() || text.empty() || value == 0) return "";
  return concat("- ", section, ".", key, ": ", path ? std::filesystem::path(text).filename().string() : text, "\n");
}

std::string training_text(const ExportCard& card) {
  if (card.step == 0) {
    return "It was not trained: the adapters' second matrices are still zero, so it computes what the dense model "
           "does.\n";
  }
  std::string text = concat("It was trained for ", card.step, " steps with these settings:\n\n");
  text += setting_line(card.settings, "data", "source", true);
  for (const char* key : {"template", "packing"}) text += setting_line(card.settings, "data", key);
  for (const char* key : {"sequence", "batch", "lr", "warmup_steps", "warmup_ratio", "clip", "balance_loss",
                          "expert_dropout", "precision", "seed"}) {
    text += setting_line(card.settings, "train", key);
  }
  return text;
}

std::string lora_text(const family::ModelSpec& spec) {
  if (!spec.lora) return "";
  return concat("LoRA of rank ", spec.lora->rank, " and alpha ", spec.lora->alpha, " on ",
                core::join(spec.lora->targets), " was trained with it and is merged into the weights: W + ",
                spec.lora->scale(), " · B · A in float32, rounded once.\n");
}

std::string rope_text(const family::ModelSpec& spec) {
  std::string text =
      concat("config.json has rope_theta = ", spec.rotary.theta, ", and the model was trained with that.");
  if (spec.rotary.theta != 10000 && family::family_of(spec.model_type).crafted == "camelidae") {
    text +=
        " **The official Camelidae class ignores the field and always computes with 10000**, which gives other "
        "results than this model was trained for. Caravan honours the field (model.rope_theta overrides it).";
  }
  return text + "\n";
}

}  // namespace

std::string card_text(const ExportCard& card) {
  const family::Pesc pesc = card.spec.pesc.value_or(family::Pesc{});
  return concat(
      "# A mixture of experts from ", std::filesystem::path(card.base).filename().string(), "\n\n",
      card.verified ? "" : "**Unverified: the check below found a difference. Do not use this folder.**\n\n",
      "A dense model, ", card.base, ", with ", pesc.experts, " adapters of dimension ", pesc.adapter_dim,
      " behind every feed-forward block, of which a router chooses ", pesc.topk, " for each token (scaling ",
      pesc.scaling,
      "): parameter-efficient sparsity crafting (Wu et al., EMNLP 2024). Written by Caravan from the checkpoint of "
      "step ",
      card.step, ", ", card.checkpoint, ".\n\n## Training\n", training_text(card), "\n", lora_text(card.spec),
      "\n## Files\nTensors are ", core::name_of(card.dtype),
      " safetensors under the official names; the tokenizer is the dense model's. config.json's auto_map names the "
      "official Camelidae class: put its configuration_camelidae.py and modeling_camelidae.py beside these files, and "
      "load the folder with trust_remote_code=True. transformers' own Llama class would leave the adapters out.\n\n",
      rope_text(card.spec), "\n## Check\n", card.verified ? "Verified. " : "**Not verified.** ", card.check,
      "\n\n## Program\n", card.program, "\n");
}

std::string unverified_text(const ExportCard& card) {
  return concat("This folder does not compute what ", card.checkpoint, " does. ", card.check, "\n");
}

}  // namespace caravan::convert
