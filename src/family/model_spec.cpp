// SPDX-License-Identifier: Apache-2.0
#include "family/model_spec.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "family/config_fields.hpp"
#include "family/families.hpp"
#include "io/safetensors.hpp"

namespace caravan::family {
namespace {

/// What a class of transformers takes for a field that is not in config.json (configuration_llama.py,
/// configuration_qwen2.py and configuration_mistral.py; the same from 4.44 to 5).
struct Defaults {
  const char* dense;
  std::int64_t hidden, ffn, kv_heads, vocabulary, max_positions, window;
};
constexpr std::int64_t default_layers = 32, default_heads = 32;
constexpr double default_norm_eps = 1e-6;
constexpr std::array<Defaults, 3> all_defaults{
    {{"llama", 4096, 11008, 0, 32000, 2048, 0},  // kv_heads 0: as many as heads
     {"qwen2", 4096, 22016, 32, 151936, 32768, 0},
     {"mistral", 4096, 14336, 8, 32000, 131072, 4096}}};

const Defaults& defaults_of(const Family& family) {
  const auto found = std::find_if(all_defaults.begin(), all_defaults.end(),
                                  [&](const Defaults& defaults) { return family.dense == defaults.dense; });
  CARAVAN_CHECK(found != all_defaults.end(), family.dense);
  return *found;
}

/// The file's model_type; else that of the class in `architectures`, as when that class itself is asked to load it.
std::string read_model_type(const ConfigFields& fields) {
  if (!fields.has("model_type") && fields.has("architectures") && fields.json().at("architectures").is_array()) {
    for (const auto& name : fields.json().at("architectures")) {
      for (const Defaults& defaults : all_defaults) {
        if (name == find_family(defaults.dense)->architecture) return defaults.dense;
      }
    }
  }
  const std::string type = fields.text("model_type");
  if (!find_family(type)) {
    fields.refuse("model_type", " is not supported; supported are " + supported_model_types());
  }
  return type;
}

// Fields that change the numbers and have one implemented value.
void refuse_unimplemented(const ConfigFields& fields) {
  if (!fields.has("hidden_act") || fields.json().at("hidden_act") != "swish") fields.only("hidden_act", "silu");
  fields.only("partial_rotary_factor", 1.0);
  fields.only("attention_dropout", 0.0);
  fields.only("quantization_config", nullptr);
  fields.only("is_causal", true);
}

/// A field of other families that this one's class does not know: what it says is not computed there, nor here.
void warn_of_ignored(const ConfigFields& fields, const Family& family, const char* key, const nlohmann::json& so) {
  if (!fields.has(key) || fields.json().at(key) == so) return;
  core::log_warning(core::concat(fields.file(), ": ", key, " = ", core::json_text(fields.json().at(key)),
                                 " is not used: ", family.architecture, " has no such field, and is ",
                                 core::json_text(so), " there"));
}

/// Qwen2's windows begin at layer max_window_layers, and not at all without use_sliding_window.
void refuse_windows_in_some_layers(const ConfigFields& fields, std::int64_t layers) {
  if (!fields.flag_or("use_sliding_window", false)) return;
  if (fields.mentions("sliding_window") && !fields.has("sliding_window")) return;
  if (fields.whole_or("max_window_layers", 0, 28) >= layers) return;
  fields.refuse("use_sliding_window", " is not implemented; only false is");
}

// Which fields a base knows, as in transformers.
void read_base(const ConfigFields& fields, const Family& family, ModelSpec& spec) {
  const bool llama = family.dense == "llama", qwen2 = family.dense == "qwen2", mistral = family.dense == "mistral";
  if (llama) {
    spec.biases.qkv = spec.biases.attention_out = fields.flag_or("attention_bias", false);
    spec.biases.feed_forward = fields.flag_or("mlp_bias", false);
  } else {
    spec.biases.qkv = qwen2;
    warn_of_ignored(fields, family, "attention_bias", qwen2);
    warn_of_ignored(fields, family, "mlp_bias", false);
  }
  if (mistral) {
    // null says that there is no window; without the field, there is that of Mistral 7B. A step 0 without it was made
    // by a version that took that for none.
    const bool old_step_0 = fields.json().contains("caravan");
    spec.window = fields.mentions("sliding_window") ? fields.whole_or("sliding_window", 1, 0)
                  : old_step_0                      ? 0
                                                    : defaults_of(family).window;
  } else if (llama) {
    warn_of_ignored(fields, family, "sliding_window", nullptr);
  }
  if (qwen2) {
    refuse_windows_in_some_layers(fields, spec.layers);
  } else {
    warn_of_ignored(fields, family, "use_sliding_window", false);
  }
  if (fields.has("layer_types")) {
    const char* type = spec.window > 0 ? "sliding_attention" : "full_attention";
    for (const auto& layer : fields.json().at("layer_types")) {
      if (layer != type) fields.refuse("layer_types", core::concat(" is not implemented; only \"", type, "\" is"));
    }
  }
  spec.tied_embeddings = fields.flag_or("tie_word_embeddings", false);
}

void read_heads(const ConfigFields& fields, const Defaults& defaults, ModelSpec& spec) {
  spec.heads = fields.whole_or("num_attention_heads", 1, default_heads);
  const bool as_heads = defaults.kv_heads == 0 || fields.mentions("num_key_value_heads");
  spec.kv_heads = fields.whole_or("num_key_value_heads", 1, as_heads ? spec.heads : defaults.kv_heads);
  if (spec.heads % spec.kv_heads != 0) {
    core::bad_input(fields.file(), ": num_key_value_heads = ", spec.kv_heads,
                    fields.has("num_key_value_heads") ? "" : ", the default,",
                    " does not divide num_attention_heads = ", spec.heads);
  }
  if (!fields.has("head_dim") && spec.hidden % spec.heads != 0) {
    core::bad_input(fields.file(), ": num_attention_heads = ", spec.heads,
                    " does not divide hidden_size = ", spec.hidden, ", and head_dim is not given");
  }
  spec.head_dim = fields.whole_or("head_dim", 1, spec.hidden / spec.heads);
  if (spec.head_dim % 2 != 0) {
    core::bad_input(fields.file(), ": the head dimension ", spec.head_dim,
                    " is odd; rotary embedding turns pairs of elements");
  }
}

/// transformers 4 loads as float32 what names no type, and 5 as the files have it, with the same values: those of a
/// tensor, so that nothing is rounded and nothing takes more room than it did.
core::DType type_of_files(const std::string& folder) {
  const std::filesystem::path path(folder);
  constexpr const char* first = "model.embed_tokens.weight";
  if (std::filesystem::exists(path / "model.safetensors") ||
      std::filesystem::exists(path / "model.safetensors.index.json")) {
    const io::SafetensorsDirectory files(path);
    if (!files.contains(first)) return core::DType::f32;
    const core::DType dtype = files.info(first).dtype;
    if (dtype == core::DType::bf16 || dtype == core::DType::f16) return dtype;
  }
  return core::DType::f32;
}

core::DType read_dtype(const ConfigFields& fields, const std::string& folder) {
  const char* key = fields.has("torch_dtype") || !fields.has("dtype") ? "torch_dtype" : "dtype";
  if (!fields.has(key)) return type_of_files(folder);
  std::string name = fields.text(key);
  if (name.starts_with("torch.")) name = name.substr(6);
  // torch's other names; float64 is computed with, and therefore kept, as float32.
  if (name == "half") name = "float16";
  if (name == "float" || name == "double" || name == "float64") name = "float32";
  for (const core::DType dtype : {core::DType::f32, core::DType::bf16, core::DType::f16}) {
    if (core::name_of(dtype) == name) return dtype;
  }
  fields.refuse(key, " is not supported; supported are float32, bfloat16 and float16");
}

/// An id, a list of them or null. What begins and ends a text is the tokenizer's to say, so no id here is an error.
void warn_of_ids(const ConfigFields& fields, std::int64_t vocabulary) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    if (!fields.has(key)) continue;
    const nlohmann::json& value = fields.json().at(key);
    for (const nlohmann::json& id : value.is_array() ? value : nlohmann::json::array({value})) {
      if (id.is_number_integer() && id >= 0 && id < vocabulary) continue;
      core::log_warning(core::concat(fields.file(), ": ", key, " = ", core::json_text(value), ", but ",
                                     core::json_text(id), " is no token of a vocabulary of ", vocabulary,
                                     "; the tokenizer says which tokens begin and end a text"));
    }
  }
}

std::optional<Pesc> read_pesc(const ConfigFields& fields) {
  if (!fields.has("num_experts") && !fields.has("adapter_dim")) return std::nullopt;
  Pesc pesc;
  pesc.experts = fields.whole("num_experts", 1, 65536);
  pesc.adapter_dim = fields.whole("adapter_dim", 1);
  pesc.topk = fields.whole("topk", 1);
  pesc.scaling = fields.positive("moe_scaling");
  if (pesc.topk > pesc.experts) {
    fields.refuse("topk", core::concat(" exceeds num_experts = ", pesc.experts));
  }
  return pesc;
}

void warn_of_camelidae_rope(const ConfigFields& fields, double file_theta, double theta) {
  const auto& json = fields.json();
  if (!json.contains("auto_map") || theta == 10000) return;
  if (core::json_text(json.at("auto_map")).find("modeling_camelidae") == std::string::npos) return;
  core::log_warning(core::concat(fields.file(), ": rope_theta = ", file_theta,
                                 ", but its auto_map names the Camelidae class, which always computes with 10000; "
                                 "this program computes with ",
                                 theta, "; set model.rope_theta=10000 for what that class does"));
}

}  // namespace

ModelSpec read_model_spec(const std::string& folder, double rope_theta) {
  const ConfigFields fields = ConfigFields::from_file(folder + "/config.json");
  ModelSpec spec;
  spec.model_type = read_model_type(fields);
  const Family& family = family_of(spec.model_type);
  const Defaults& defaults = defaults_of(family);
  refuse_unimplemented(fields);
  spec.hidden = fields.whole_or("hidden_size", 1, defaults.hidden);
  spec.ffn = fields.whole_or("intermediate_size", 1, defaults.ffn);
  spec.layers = fields.has("num_hidden_layers") ? fields.whole("num_hidden_layers", 1, 65536) : default_layers;
  read_base(fields, family, spec);
  read_heads(fields, defaults, spec);
  spec.vocabulary = fields.whole_or("vocab_size", 1, defaults.vocabulary);
  spec.max_positions = fields.whole_or("max_position_embeddings", 1, defaults.max_positions);
  spec.rotary = read_rotary(fields, spec.max_positions);
  const double file_theta = spec.rotary.theta;
  if (rope_theta > 0) spec.rotary.theta = rope_theta;
  spec.norm_eps = fields.positive_or("rms_norm_eps", default_norm_eps);
  warn_of_ids(fields, spec.vocabulary);
  spec.dtype = read_dtype(fields, folder);
  spec.pesc = read_pesc(fields);
  if (spec.model_type == family.crafted && !spec.pesc) {
    fields.refuse("model_type", " needs the fields num_experts, topk, adapter_dim and moe_scaling");
  }
  spec.lora = read_lora(fields);
  warn_of_camelidae_rope(fields, file_theta, spec.rotary.theta);
  return spec;
}

std::int64_t known_positions(const ModelSpec& spec) {
  if (!spec.rotary.scaling) return spec.max_positions;
  const RotaryScaling& scaling = *spec.rotary.scaling;
  const std::int64_t before =
      scaling.kind == RotaryScaling::Kind::llama3 ? scaling.original_positions : spec.max_positions;
  constexpr double most = 1e15;  // beyond any sequence, and a whole number of both types
  const auto after = static_cast<std::int64_t>(std::min(most, scaling.factor * static_cast<double>(before)));
  return std::max(spec.max_positions, after);
}

ModelSpec crafted(ModelSpec base, const Pesc& pesc, const std::optional<Lora>& lora) {
  base.lora = lora;
  if (base.pesc) return base;
  if (pesc.topk > pesc.experts) {
    core::bad_input("upcycle.topk = ", pesc.topk, " exceeds upcycle.experts = ", pesc.experts);
  }
  base.model_type = family_of(base.model_type).crafted;
  base.pesc = pesc;
  return base;
}

std::string crafted_config(const std::string& base_config, const ModelSpec& spec) {
  CARAVAN_CHECK(spec.pesc.has_value());
  nlohmann::json json = core::parse_json(base_config);
  json["model_type"] = spec.model_type;
  json["num_experts"] = spec.pesc->experts;
  json["topk"] = spec.pesc->topk;
  json["adapter_dim"] = spec.pesc->adapter_dim;
  json["moe_scaling"] = spec.pesc->scaling;
  set_rotary_base(json, spec.rotary.theta);
  if (family_of(spec.model_type).dense == "mistral") {
    json["sliding_window"] = spec.window > 0 ? nlohmann::json(spec.window) : nlohmann::json();
  }
  if (json.value("torch_dtype", nlohmann::json()).is_null() && json.value("dtype", nlohmann::json()).is_null()) {
    json["torch_dtype"] = core::name_of(spec.dtype);  // there are no tensors beside it to look at
  }
  if (spec.lora) json["caravan"]["lora"] = lora_json(*spec.lora);
  return core::json_text(json, 2) + "\n";
}

}  // namespace caravan::family
