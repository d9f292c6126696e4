// SPDX-License-Identifier: Apache-2.0
#include "convert/export_card.hpp"

#include <filesystem>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "family/families.hpp"

namespace caravan::convert {
namespace {

using core::concat;
using nlohmann::json;

// "- name: value", when the run's configuration has it. Of a path only the file's name, since folders are private.
std::string setting_line(const json& settings, const char* section, const char* key, bool path = false) {
  const json value = settings.value(section, json::object()).value(key, json());
  const std::string text = value.is_string() ? value.get<std::string>() : core::json_text(value);
  if (value.is_null() || text.empty() || value == 0) return "";
  return concat("- ", section, ".", key, ": ", path ? std::filesystem::path(text).filename().string() : text, "\n");
}

std::string training_text(const ExportCard& card) {
  if (card.step == 0) {
    return "It was not trained: it computes what the model that it was made from does.\n";
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

std::string rope_text(const ExportCard& card) {
  const double theta = card.spec.rotary.theta;
  std::string text = concat("config.json has rope_theta = ", theta, ", and the model was trained with that.");
  if (card.format == ExportFormat::official && theta != 10000 &&
      family::family_of(card.spec.model_type).crafted == "camelidae") {
    text +=
        " **The official Camelidae class ignores the field and always computes with 10000**, which gives other "
        "results than this model was trained for. Caravan honours the field (model.rope_theta overrides it).";
  }
  return text + "\n";
}

std::string tokenizer_text(const ExportCard& card) {
  if (card.prompt == PromptOf::none) return "there is no tokenizer";
  return "the tokenizer is " + (card.tokenizer.empty() ? "the base's" : "that of data.tokenizer, " + card.tokenizer);
}

// How to load a whole model by the class that its family's authors published, if any.
std::string official_class_text(const family::Family& family) {
  const std::string stock = concat("transformers' own ", family.architecture, " would leave the adapters out.\n\n");
  if (family.auto_config.empty()) {
    return concat("No class for transformers is published for ", family.crafted, "; ", stock);
  }
  const auto file_of = [](const std::string& name) { return name.substr(0, name.find('.')) + ".py"; };
  return concat("config.json's auto_map names the official classes: put their ", file_of(family.auto_config), " and ",
                file_of(family.auto_model), " beside these files, and load the folder with trust_remote_code=True. ",
                stock);
}

// Python that answers a prompt with the model. A test runs it.
std::string answer_code(PromptOf prompt) {
  if (prompt == PromptOf::none) return "";
  const std::string made = prompt == PromptOf::messages
                               ? R"(chat = [{"role": "user", "content": "Write a haiku about the sea."}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
)"
                               : R"(prompt = tokenizer("The sea is", return_tensors="pt")
)";
  return made + "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=200)[0]))\n";
}

// Python that loads a whole model.
std::string whole_model_code(PromptOf prompt) {
  const bool tokenizer = prompt != PromptOf::none;
  return concat("\n```python\nfrom transformers import AutoModelForCausalLM", tokenizer ? ", AutoTokenizer" : "",
                "\n\nfolder = \".\"  # this one\n",
                tokenizer ? "tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n" : "",
                "model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)\n", answer_code(prompt),
                "```\n\n");
}

std::string whole_model_text(const ExportCard& card) {
  std::string text = concat("Tensors are ", core::name_of(card.dtype), " safetensors under the official names; ",
                            tokenizer_text(card), ". ", card.chat, card.chat.empty() ? "" : " ");
  if (card.format == ExportFormat::official) {
    text += official_class_text(family::family_of(card.spec.model_type));
  } else {
    text +=
        "transformers 4.44 and later load the folder with the classes that it holds, configuration_pesc.py and "
        "modeling_pesc.py, and vLLM does with --trust-remote-code:\n";
    text += whole_model_code(card.prompt);
  }
  return text + rope_text(card);
}

// Python that loads base, mixture and LoRA; a test runs it.
std::string adapter_code(const ExportCard& card) {
  const std::string classes = family::family_of(card.spec.model_type).classes;
  const bool tokenizer = card.prompt != PromptOf::none;
  std::string code =
      concat("```python\nimport json\nfrom glob import glob\n\n", card.spec.lora ? "from peft import PeftModel\n" : "",
             R"(from safetensors.torch import load_file
)",
             tokenizer ? "from transformers import AutoTokenizer\n" : "",
             R"(from transformers.dynamic_module_utils import get_class_from_dynamic_module as class_of

folder = "."  # this one
base = )",
             core::json_text(json(card.base)), R"(
Config = class_of("configuration_pesc.)",
             classes, R"(Config", folder)
Model = class_of("modeling_pesc.)",
             classes, R"(ForCausalLM", folder)
Config.register_for_auto_class()  # so that save_pretrained writes the classes, too
Model.register_for_auto_class("AutoModelForCausalLM")
mixture = json.load(open(f"{folder}/pesc/config.json"))
config = Config(**{**Config.get_config_dict(base)[0], **mixture})
model = Model.from_pretrained(base, config=config)  # it says that the mixture is missing, which comes now
for file in glob(f"{folder}/pesc/*.safetensors"):
    assert not model.load_state_dict(load_file(file), strict=False).unexpected_keys
)");
  if (card.spec.lora) code += "model = PeftModel.from_pretrained(model, folder)\n";
  if (card.eos) code += concat("model.generation_config.eos_token_id = ", *card.eos, "  # as in the training\n");
  if (tokenizer) code += "tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n";
  code += answer_code(card.prompt);
  return code + "```\n\n";
}

std::string adapter_text(const ExportCard& card) {
  std::string text = concat("Tensors are ", core::name_of(card.dtype), " safetensors; the base is not among them, and ",
                            tokenizer_text(card), ".\n\n");
  if (card.spec.lora) {
    text += concat("- adapter_config.json, adapter_model.safetensors: LoRA, for PeftModel.from_pretrained on ",
                   card.base, "\n");
  }
  if (card.spec.pesc) {
    text +=
        "- pesc/config.json, pesc/model.safetensors: routers and adapters, which PEFT does not know and leaves out, "
        "under the names that they have in a whole model\n"
        "- configuration_pesc.py, modeling_pesc.py: the classes that compute them, for transformers 4.44 and later\n\n";
    text += "Base, mixture and LoRA together, which is the whole model:\n\n" + adapter_code(card);
  }
  if (!card.chat.empty()) text += card.chat + "\n";
  return text +
         "\nCaravan takes base and adapter together: caravan upcycle with model.base and model.adapter, caravan "
         "verify with --model and --adapter.\n";
}

// The head of a card on the Hugging Face Hub, in YAML. Texts are quoted as JSON, which YAML includes.
std::string head_text(const ExportCard& card) {
  std::string head = "---\n";
  const auto line = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    head += concat(key, ": ", core::json_text(json(value)), "\n");
  };
  line("license", card.license.id);
  line("license_name", card.license.name);
  line("license_link", card.license.link);
  line("library_name", card.merged || !card.spec.lora ? "transformers" : "peft");
  line("pipeline_tag", "text-generation");
  return head + "---\n";
}

std::string terms_text(const ExportCard& card) {
  std::string text;
  if (card.license.id.empty()) {
    text = "The base's folder did not say under which license it is; find that out before you share this model.\n";
  } else {
    text = concat("The base's license is ", card.license.id,
                  card.license.name.empty() ? "" : concat(" (", card.license.name, ")"),
                  "; its terms say what holds for a model that is made from it.\n");
  }
  if (!card.terms.empty()) text += concat("From its folder: ", core::join(card.terms), ".\n");
  return text;
}

}  // namespace

std::string card_text(const ExportCard& card) {
  const family::Pesc pesc = card.spec.pesc.value_or(family::Pesc{});
  return concat(
      head_text(card), "# A mixture of experts from ", std::filesystem::path(card.base).filename().string(), "\n\n",
      card.verified ? "" : "**Unverified: the check below found a difference. Do not use this folder.**\n\n", card.base,
      " with ", pesc.experts, " adapters of dimension ", pesc.adapter_dim,
      " behind every feed-forward block, of which a router chooses ", pesc.topk, " for each token (scaling ",
      pesc.scaling,
      "): parameter-efficient sparsity crafting (Wu et al., EMNLP 2024). Written by Caravan from the checkpoint of "
      "step ",
      card.step, ", ", card.checkpoint, ".\n\n## Training\n", training_text(card), "\n", lora_text(card),
      "\n## Files\n", card.merged ? whole_model_text(card) : adapter_text(card), "\n## License\n", terms_text(card),
      "\n## Check\n", card.verified ? "Verified. " : "**Not verified.** ", card.check, "\n\n## Program\n", card.program,
      "\n");
}

std::string unverified_text(const ExportCard& card) {
  return concat("This folder does not compute what ", card.checkpoint, " does. ", card.check, "\n");
}

}  // namespace caravan::convert
