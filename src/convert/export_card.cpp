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
  // What prepare was run with; the settings of the training may have been others by then.
  const json data = card.packed.is_object() ? json{{"data", card.packed}} : card.settings;
  text += setting_line(data, "data", "source", true);
  for (const char* key : {"template", "packing", "max_prompt"}) text += setting_line(data, "data", key);
  for (const char* key : {"sequence", "batch", "lr", "warmup_steps", "warmup_ratio", "clip", "balance_loss", "capacity",
                          "expert_dropout", "precision", "seed"}) {
    text += setting_line(card.settings, "train", key);
  }
  return text;
}

std::string lora_text(const ExportCard& card) {
  if (!card.spec.lora) return "";
  const family::Lora& lora = *card.spec.lora;
  return concat("LoRA of rank ", lora.rank, " and alpha ", lora.alpha, lora.rank_stabilised ? ", rank-stabilised," : "",
                " on ", core::join(lora.targets), " was trained with it",
                card.merged ? concat(" and is merged into the weights: W + ", lora.scale(),
                                     " · B · A in float32, rounded once.\n")
                            : concat("; the weights are W + ", lora.scale(), " · B · A.\n"));
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

// How to load a whole model: by the class that its family's authors published, if any.
std::string class_text(const family::ModelSpec& spec) {
  const family::Family& family = family::family_of(spec.model_type);
  const std::string stock = concat("transformers' own ", family.architecture, " would leave the adapters out.\n\n");
  if (family.auto_config.empty()) {
    return concat("No class for transformers is published for ", family.crafted, "; ", stock);
  }
  const auto file_of = [](const std::string& name) { return name.substr(0, name.find('.')) + ".py"; };
  return concat("config.json's auto_map names the official classes: put their ", file_of(family.auto_config), " and ",
                file_of(family.auto_model), " beside these files, and load the folder with trust_remote_code=True. ",
                stock);
}

std::string files_text(const ExportCard& card) {
  if (card.merged) {
    return concat("Tensors are ", core::name_of(card.dtype),
                  " safetensors under the official names; the tokenizer is the dense model's. ", class_text(card.spec),
                  rope_text(card.spec));
  }
  std::string text = concat("Tensors are ", core::name_of(card.dtype), " safetensors; the base is not among them.\n\n");
  if (card.spec.lora) {
    text += concat("- adapter_config.json, adapter_model.safetensors: LoRA, for PeftModel.from_pretrained on ",
                   card.base, "\n");
  }
  if (card.spec.pesc) {
    text +=
        "- pesc/config.json, pesc/model.safetensors: routers and adapters, which PEFT does not know and leaves out, "
        "under the names that they have in a whole model\n";
  }
  return text +
         "\nCaravan takes base and adapter together: caravan upcycle with model.base and model.adapter, caravan "
         "verify with --model and --adapter.\n";
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
      card.step, ", ", card.checkpoint, ".\n\n## Training\n", training_text(card), "\n", lora_text(card),
      "\n## Files\n", files_text(card), "\n## Check\n", card.verified ? "Verified. " : "**Not verified.** ", card.check,
      "\n\n## Program\n", card.program, "\n");
}

std::string unverified_text(const ExportCard& card) {
  return concat("This folder does not compute what ", card.checkpoint, " does. ", card.check, "\n");
}

}  // namespace caravan::convert
