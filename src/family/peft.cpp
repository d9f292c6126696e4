// SPDX-License-Identifier: Apache-2.0
#include "family/peft.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "core/error.hpp"
#include "family/config_fields.hpp"
#include "family/families.hpp"

namespace caravan::family {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* way_out =
    " is not implemented; merge this adapter into its base with PEFT (merge_and_unload), and take the result as "
    "model.base";

// Fields that change what is computed or what is stored, unless they are absent or say no.
constexpr std::array refused{
    "use_dora",        "rank_pattern",    "alpha_pattern",           "layers_to_transform", "layer_replication",
    "modules_to_save", "exclude_modules", "trainable_token_indices", "target_parameters",   "fan_in_fan_out",
    "lora_bias",       "use_qalora",      "alora_invocation_tokens", "megatron_config",     "use_bdlora",
};

bool says_no(const json& value) { return value.is_null() || value == false || value.empty(); }

// Starts that leave the base as it is; the others replace its weights by what is left of them.
bool keeps_base(const json& start) {
  return start.is_boolean() || start == "gaussian" || start == "eva" || start == "orthogonal";
}

void refuse_unimplemented(const ConfigFields& fields) {
  if (fields.text("peft_type") != "LORA") fields.refuse("peft_type", way_out);
  for (const char* key : refused) {
    if (fields.has(key) && !says_no(fields.json().at(key))) fields.refuse(key, way_out);
  }
  if (fields.has("bias") && fields.text("bias") != "none") fields.refuse("bias", way_out);
  if (fields.has("init_lora_weights") && !keeps_base(fields.json().at("init_lora_weights"))) {
    fields.refuse("init_lora_weights",
                  " starts from a base whose weights it changes, which the folder does not hold; convert the adapter "
                  "with PEFT (save_pretrained's path_initial_model_for_weight_conversion)");
  }
  if (fields.has("task_type") && fields.text("task_type") != "CAUSAL_LM") {
    fields.refuse("task_type", " is not supported; only \"CAUSAL_LM\" is");
  }
}

std::vector<std::string> read_targets(const ConfigFields& fields) {
  if (!fields.has("target_modules")) fields.refuse("target_modules", "; list the names of the linears");
  const json& value = fields.json().at("target_modules");
  if (value.is_string()) {
    if (value == "all-linear") return lora_linears();
    fields.refuse("target_modules", " is a pattern, which is not supported; list the names of the linears instead");
  }
  std::vector<std::string> targets;
  if (!value.is_array()) fields.refuse("target_modules", " is neither a list nor \"all-linear\"");
  for (const json& target : value) {
    if (!target.is_string()) fields.refuse("target_modules", " is not a list of names");
    targets.push_back(target.get<std::string>());
  }
  return checked_targets(targets, fields.file() + ": target_modules");
}

Lora read_lora_of(const fs::path& file) {
  const ConfigFields fields = ConfigFields::from_file(file.string());
  refuse_unimplemented(fields);
  Lora lora;
  lora.rank = fields.whole("r", 1, 65536);
  lora.alpha = fields.positive("lora_alpha");
  lora.targets = read_targets(fields);
  lora.rank_stabilised = fields.flag_or("use_rslora", false);
  return lora;
}

void read_mixture(const fs::path& file, PeftAdapter& adapter) {
  const ConfigFields fields = ConfigFields::from_file(file.string());
  adapter.model_type = fields.text("model_type");
  if (!find_family(adapter.model_type)) {
    fields.refuse("model_type", " is not supported; supported are " + supported_model_types());
  }
  Pesc pesc;
  pesc.experts = fields.whole("num_experts", 1, 65536);
  pesc.topk = fields.whole("topk", 1);
  pesc.adapter_dim = fields.whole("adapter_dim", 1);
  pesc.scaling = fields.positive("moe_scaling");
  if (pesc.topk > pesc.experts) fields.refuse("topk", core::concat(" exceeds num_experts = ", pesc.experts));
  adapter.pesc = pesc;
}

}  // namespace

PeftAdapter read_peft_adapter(const std::string& folder) {
  if (!fs::is_directory(folder)) core::bad_input(folder, " is not a folder with a PEFT adapter");
  PeftAdapter adapter{folder};
  const fs::path updates = fs::path(folder) / "adapter_config.json";
  const fs::path mixture = fs::path(folder) / peft_mixture_folder / "config.json";
  if (fs::exists(updates)) adapter.lora = read_lora_of(updates);
  if (fs::exists(mixture)) read_mixture(mixture, adapter);
  if (!adapter.lora && !adapter.pesc) {
    core::bad_input(updates.string(), ": cannot be read; a PEFT folder holds it, beside adapter_model.safetensors");
  }
  return adapter;
}

ModelSpec adapted(ModelSpec base, const PeftAdapter& adapter) {
  base.lora = adapter.lora;
  if (!adapter.pesc) return base;
  const Family& family = family_of(base.model_type);
  if (find_family(adapter.model_type) != &family) {
    core::bad_input((fs::path(adapter.folder) / peft_mixture_folder / "config.json").string(), ": model_type = \"",
                    adapter.model_type, "\" does not stand on a base of model_type \"", base.model_type,
                    "\"; take the base that it was trained on");
  }
  if (!base.pesc) base.model_type = family.crafted;
  base.pesc = adapter.pesc;
  return base;
}

json peft_config(const Lora& lora, const std::string& base, double dropout) {
  // PEFT's field is a whole number, and its own files hold one.
  const bool is_whole = lora.alpha == std::floor(lora.alpha) && lora.alpha < 1e15;
  const json alpha = is_whole ? json(static_cast<std::int64_t>(lora.alpha)) : json(lora.alpha);
  std::vector<std::string> targets = lora.targets;
  std::sort(targets.begin(), targets.end());
  return {{"alpha_pattern", json::object()},
          {"auto_mapping", nullptr},
          {"base_model_name_or_path", base},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"layer_replication", nullptr},
          {"layers_pattern", nullptr},
          {"layers_to_transform", nullptr},
          {"loftq_config", json::object()},
          {"lora_alpha", alpha},
          {"lora_dropout", dropout},
          {"megatron_config", nullptr},
          {"megatron_core", "megatron.core"},
          {"modules_to_save", nullptr},
          {"peft_type", "LORA"},
          {"r", lora.rank},
          {"rank_pattern", json::object()},
          {"revision", nullptr},
          {"target_modules", targets},
          {"task_type", "CAUSAL_LM"},
          {"use_dora", false},
          {"use_rslora", lora.rank_stabilised}};
}

json peft_mixture_config(const ModelSpec& spec, double dropout) {
  CARAVAN_CHECK(spec.pesc.has_value());
  return {{"model_type", spec.model_type},         {"num_experts", spec.pesc->experts}, {"topk", spec.pesc->topk},
          {"adapter_dim", spec.pesc->adapter_dim}, {"moe_scaling", spec.pesc->scaling}, {"adapter_dropout", dropout}};
}

std::string peft_name(const std::string& name) { return "base_model.model." + name; }

}  // namespace caravan::family
