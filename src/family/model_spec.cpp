// SPDX-License-Identifier: Apache-2.0
#include "family/model_spec.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "family/config_fields.hpp"
#include "family/families.hpp"

namespace caravan::family {
namespace {

const Family& read_family(const ConfigFields& fields) {
  const Family* family = find_family(fields.text("model_type"));
  if (!family) fields.refuse("model_type", " is not supported; supported are " + supported_model_types());
  return *family;
}

// Fields that change the numbers and have one implemented value.
void refuse_unimplemented(const ConfigFields& fields) {
  fields.only("hidden_act", "silu");
  fields.only("partial_rotary_factor", 1.0);
  fields.only("attention_dropout", 0.0);
  fields.only("quantization_config", nullptr);
  fields.only("is_causal", true);
  fields.only("use_sliding_window", false);  // Qwen2: windows in some layers
}

// Which fields a base knows, as in transformers: a field of another family's must be absent or say what is so anyway.
void read_base(const ConfigFields& fields, const Family& family, ModelSpec& spec) {
  const bool llama = family.dense == "llama", qwen2 = family.dense == "qwen2", mistral = family.dense == "mistral";
  if (llama) {
    spec.biases.qkv = spec.biases.attention_out = fields.flag_or("attention_bias", false);
    spec.biases.feed_forward = fields.flag_or("mlp_bias", false);
  } else {
    spec.biases.qkv = qwen2;
    fields.only("attention_bias", qwen2);
    fields.only("mlp_bias", false);
    fields.only("rope_scaling", nullptr);
  }
  if (mistral) {
    spec.window = fields.whole_or("sliding_window", 1, 0);
  } else if (!qwen2) {  // Qwen2's is off unless use_sliding_window is true
    fields.only("sliding_window", nullptr);
  }
  if (fields.has("layer_types")) {
    const char* type = spec.window > 0 ? "sliding_attention" : "full_attention";
    for (const auto& layer : fields.json().at("layer_types")) {
      if (layer != type) fields.refuse("layer_types", core::concat(" is not implemented; only \"", type, "\" is"));
    }
  }
  spec.tied_embeddings = fields.flag_or("tie_word_embeddings", false);
}

core::DType read_dtype(const ConfigFields& fields) {
  const char* key = fields.has("torch_dtype") || !fields.has("dtype") ? "torch_dtype" : "dtype";
  const std::string name = fields.text(key);
  for (const core::DType dtype : {core::DType::f32, core::DType::bf16, core::DType::f16}) {
    if (core::name_of(dtype) == name) return dtype;
  }
  fields.refuse(key, " is not supported; supported are float32, bfloat16 and float16");
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
  if (json.at("auto_map").dump().find("camelidae") == std::string::npos) return;
  core::log_warning(core::concat(fields.file(), ": rope_theta = ", file_theta,
                                 ", but its auto_map names the Camelidae class, which always computes with 10000; "
                                 "this program computes with ",
                                 theta, "; set model.rope_theta=10000 for what that class does"));
}

}  // namespace

ModelSpec read_model_spec(const std::string& folder, double rope_theta) {
  const ConfigFields fields = ConfigFields::from_file(folder + "/config.json");
  ModelSpec spec;
  const Family& family = read_family(fields);
  spec.model_type = fields.text("model_type");
  refuse_unimplemented(fields);
  read_base(fields, family, spec);
  spec.hidden = fields.whole("hidden_size", 1);
  spec.ffn = fields.whole("intermediate_size", 1);
  spec.layers = fields.whole("num_hidden_layers", 1, 65536);
  spec.heads = fields.whole("num_attention_heads", 1);
  // Only Llama's default is its number of heads.
  spec.kv_heads = family.dense == "llama" ? fields.whole_or("num_key_value_heads", 1, spec.heads)
                                          : fields.whole("num_key_value_heads", 1);
  if (spec.heads % spec.kv_heads != 0) {
    fields.refuse("num_key_value_heads", core::concat(" does not divide num_attention_heads = ", spec.heads));
  }
  if (!fields.has("head_dim") && spec.hidden % spec.heads != 0) {
    fields.refuse("num_attention_heads",
                  core::concat(" does not divide hidden_size = ", spec.hidden, ", and head_dim is not given"));
  }
  spec.head_dim = fields.whole_or("head_dim", 1, spec.hidden / spec.heads);
  if (spec.head_dim % 2 != 0) {
    core::bad_input(fields.file(), ": the head dimension ", spec.head_dim,
                    " is odd; rotary embedding turns pairs of elements");
  }
  spec.vocabulary = fields.whole("vocab_size", 1);
  spec.rotary = read_rotary(fields);
  const double file_theta = spec.rotary.theta;
  if (rope_theta > 0) spec.rotary.theta = rope_theta;
  spec.norm_eps = fields.positive("rms_norm_eps");
  spec.max_positions = fields.whole("max_position_embeddings", 1);
  spec.bos = fields.whole("bos_token_id", 0);
  spec.eos = fields.whole("eos_token_id", 0);
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    if (fields.whole(key, 0) >= spec.vocabulary) {
      fields.refuse(key, core::concat(" is no token of a vocabulary of ", spec.vocabulary));
    }
  }
  spec.dtype = read_dtype(fields);
  spec.pesc = read_pesc(fields);
  if (spec.model_type == family.crafted && !spec.pesc) {
    fields.refuse("model_type", " needs the fields num_experts, topk, adapter_dim and moe_scaling");
  }
  spec.lora = read_lora(fields);
  warn_of_camelidae_rope(fields, file_theta, spec.rotary.theta);
  return spec;
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
  nlohmann::json json = nlohmann::json::parse(base_config);
  json["model_type"] = spec.model_type;
  json["num_experts"] = spec.pesc->experts;
  json["topk"] = spec.pesc->topk;
  json["adapter_dim"] = spec.pesc->adapter_dim;
  json["moe_scaling"] = spec.pesc->scaling;
  if (json.contains("rope_parameters")) {
    json["rope_parameters"]["rope_theta"] = spec.rotary.theta;
  } else {
    json["rope_theta"] = spec.rotary.theta;
  }
  if (spec.lora) json["caravan"]["lora"] = lora_json(*spec.lora);
  return json.dump(2) + "\n";
}

}  // namespace caravan::family
