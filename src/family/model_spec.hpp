// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/dtype.hpp"
#include "family/lora.hpp"
#include "family/rotary.hpp"

namespace caravan::family {

/// The mixture of adapters that stands behind every feed-forward block (Wu et al., EMNLP 2024):
/// out = y + scaling · Σ_{e in topk} w_e · Up_e(gelu(Down_e(y))).
struct Pesc {
  std::int64_t experts = 0;
  std::int64_t topk = 0;
  std::int64_t adapter_dim = 0;
  double scaling = 0.25;
  bool operator==(const Pesc&) const = default;
};

/// Which linears add a bias.
struct Biases {
  bool qkv = false;            // q_proj, k_proj, v_proj: attention_bias; always in Qwen2
  bool attention_out = false;  // o_proj: attention_bias of Llama
  bool feed_forward = false;   // gate_proj, up_proj, down_proj: mlp_bias
  bool operator==(const Biases&) const = default;
};

/// Everything that decides a model's numbers, apart from its weights. Field names in config.json are in the comments;
/// what is not in the file has the default of the model_type's class in transformers (4.44 to 5).
struct ModelSpec {
  std::string model_type;                // of a family, see families.hpp
  std::int64_t hidden = 0;               // hidden_size
  std::int64_t ffn = 0;                  // intermediate_size
  std::int64_t layers = 0;               // num_hidden_layers
  std::int64_t heads = 0;                // num_attention_heads
  std::int64_t kv_heads = 0;             // num_key_value_heads; null: heads
  std::int64_t head_dim = 0;             // head_dim; absent: hidden / heads
  std::int64_t vocabulary = 0;           // vocab_size
  Rotary rotary{};                       // rope_theta, rope_scaling, rope_parameters
  double norm_eps = 0;                   // rms_norm_eps
  std::int64_t max_positions = 0;        // max_position_embeddings
  std::int64_t window = 0;               // sliding_window: keys that a token sees, itself among them; 0: all
  Biases biases{};                       // attention_bias, mlp_bias
  bool tied_embeddings = false;          // tie_word_embeddings: the head is the embedding
  core::DType dtype = core::DType::f32;  // torch_dtype or dtype: of the frozen tensors; absent: as in the files
  std::optional<Pesc> pesc{};            // num_experts, topk, adapter_dim, moe_scaling
  std::optional<Lora> lora{};            // caravan.lora, which upcycle writes
  bool operator==(const ModelSpec&) const = default;
};

/// Reads FOLDER/config.json as transformers does. rope_theta above 0 replaces the file's. Throws (exit 2), with file,
/// field and value, when a field has the wrong type, is out of range, contradicts another, or has a meaning that is not
/// implemented; the fields of a mixture of adapters, and model_type without a class in `architectures`, must be there.
/// Where config.json names no type, the tensors beside it are looked at. Warns of fields that the class of this
/// model_type ignores, of bos and eos outside the vocabulary, and when auto_map names the Camelidae class, which
/// ignores rope_theta, with another base.
ModelSpec read_model_spec(const std::string& folder, double rope_theta = 0);

/// The longest sequence that the model was made for: max_position_embeddings, which many files give as it was before
/// scaling, times the factor of the rotary scaling. Nothing is computed with it: transformers sets no limit.
std::int64_t known_positions(const ModelSpec& spec);

/// The base with adapters and low-rank updates added. A base that has adapters keeps its own, and `pesc` is left aside.
/// Throws (exit 2) when topk exceeds the number of experts.
ModelSpec crafted(ModelSpec base, const Pesc& pesc, const std::optional<Lora>& lora);

/// The text of config.json for a crafted model: `base_config` (the base's text) with model_type, num_experts, topk,
/// adapter_dim, moe_scaling, rope_theta, caravan.lora and, when it names no type, torch_dtype set. read_model_spec
/// reads it back.
std::string crafted_config(const std::string& base_config, const ModelSpec& spec);

}  // namespace caravan::family
