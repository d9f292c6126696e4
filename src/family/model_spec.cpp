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

namespace caravan::family {
namespace {

const std::vector<std::string>& supported_types() {
  static const std::vector<std::string> types{"llama", "camelidae"};
  return types;
}

std::string read_model_type(const ConfigFields& fields) {
  std::string type = fields.text("model_type");
  const auto& types = supported_types();
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    fields.refuse("model_type", " is not supported; supported are " + core::join(types));
  }
  return type;
}

// Fields of transformers' Llama configuration that change the numbers and have one implemented value.
void refuse_unimplemented(const ConfigFields& fields) {
  fields.only("hidden_act", "silu");
  fields.only("attention_bias", false);
  fields.only("mlp_bias", false);
  fields.only("tie_word_embeddings", false);
  fields.only("rope_scaling", nullptr);
  fields.only("sliding_window", nullptr);
  fields.only("partial_rotary_factor", 1.0);
  fields.only("attention_dropout", 0.0);
  fields.only("quantization_config", nullptr);
  fields.only("is_causal", true);
  if (fields.has("layer_types")) {
    for (const auto& type : fields.json().at("layer_types")) {
      if (type != "full_attention") fields.refuse("layer_types", " is not implemented; only \"full_attention\" is");
    }
  }
}

double read_rope_theta(const ConfigFields& fields) {
  if (!fields.has("rope_parameters")) return fields.positive_or("rope_theta", 10000);
  const ConfigFields rope = fields.inside("rope_parameters");  // transformers 5
  rope.only("rope_type", "default");
  rope.only("partial_rotary_factor", 1.0);
  return rope.positive("rope_theta");
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

// The targets in the order of the forward pass, so that equal sets are equal.
std::vector<std::string> checked_targets(const std::vector<std::string>& targets, const std::string& where) {
  constexpr std::array<std::string_view, 7> linears{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                    "gate_proj", "up_proj", "down_proj"};
  if (targets.empty()) core::bad_input(where, " names no linear; name some, or set lora.rank = 0");
  std::set<std::string> seen;
  for (const std::string& target : targets) {
    if (std::find(linears.begin(), linears.end(), target) == linears.end()) {
      core::bad_input(where, ": ", target, " is no linear; use ", core::join({linears.begin(), linears.end()}));
    }
    if (!seen.insert(target).second) core::bad_input(where, " names ", target, " twice");
  }
  std::vector<std::string> ordered;
  for (const std::string_view linear : linears) {
    if (seen.contains(std::string(linear))) ordered.emplace_back(linear);
  }
  return ordered;
}

std::optional<Lora> read_lora(const ConfigFields& fields) {
  if (!fields.has("caravan") || !fields.inside("caravan").has("lora")) return std::nullopt;
  const ConfigFields inner = fields.inside("caravan").inside("lora");
  Lora lora;
  lora.rank = inner.whole("rank", 1);
  lora.alpha = inner.positive("alpha");
  if (!inner.has("targets") || !inner.json().at("targets").is_array()) inner.refuse("targets", " is not a list");
  for (const auto& target : inner.json().at("targets")) {
    if (!target.is_string()) inner.refuse("targets", " is not a list of names");
    lora.targets.push_back(target.get<std::string>());
  }
  lora.targets = checked_targets(lora.targets, fields.file() + ": caravan.lora.targets");
  return lora;
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

bool Lora::has(const std::string& linear) const {
  return std::find(targets.begin(), targets.end(), linear) != targets.end();
}

ModelSpec read_model_spec(const std::string& folder, double rope_theta) {
  const ConfigFields fields = ConfigFields::from_file(folder + "/config.json");
  ModelSpec spec;
  spec.model_type = read_model_type(fields);
  refuse_unimplemented(fields);
  spec.hidden = fields.whole("hidden_size", 1);
  spec.ffn = fields.whole("intermediate_size", 1);
  spec.layers = fields.whole("num_hidden_layers", 1, 65536);
  spec.heads = fields.whole("num_attention_heads", 1);
  spec.kv_heads = fields.whole_or("num_key_value_heads", 1, spec.heads);
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
  const double file_theta = read_rope_theta(fields);
  spec.rope_theta = rope_theta > 0 ? rope_theta : file_theta;
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
  if (spec.model_type == "camelidae" && !spec.pesc) {
    fields.refuse("model_type", " needs the fields num_experts, topk, adapter_dim and moe_scaling");
  }
  spec.lora = read_lora(fields);
  warn_of_camelidae_rope(fields, file_theta, spec.rope_theta);
  return spec;
}

ModelSpec crafted(ModelSpec dense, const Pesc& pesc, const std::optional<Lora>& lora) {
  if (dense.pesc) {
    core::bad_input("the base model has adapters already (", dense.pesc->experts, " experts of dimension ",
                    dense.pesc->adapter_dim, "); upcycle starts from a dense model");
  }
  if (pesc.topk > pesc.experts) {
    core::bad_input("upcycle.topk = ", pesc.topk, " exceeds upcycle.experts = ", pesc.experts);
  }
  dense.model_type = "camelidae";
  dense.pesc = pesc;
  dense.lora = lora;
  return dense;
}

std::optional<Lora> lora_of(const LoraOptions& options) {
  if (options.rank == 0) return std::nullopt;
  return Lora{options.rank, options.alpha, checked_targets(options.targets, "lora.targets")};
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
    json["rope_parameters"]["rope_theta"] = spec.rope_theta;
  } else {
    json["rope_theta"] = spec.rope_theta;
  }
  if (spec.lora) {
    json["caravan"]["lora"] = {{"rank", spec.lora->rank}, {"alpha", spec.lora->alpha}, {"targets", spec.lora->targets}};
  }
  return json.dump(2) + "\n";
}

}  // namespace caravan::family
