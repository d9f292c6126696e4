// SPDX-License-Identifier: Apache-2.0
#include "family/parameters.hpp"

namespace caravan::family {
namespace {

using layout::Axis;
using layout::Init;
using layout::ParameterSpec;
using layout::Split;

class Builder {
 public:
  explicit Builder(const ModelSpec& spec) : spec_(spec) {}

  void frozen(const std::string& name, layout::Shape shape, std::optional<Split> split) {
    parameters_.push_back({name, std::move(shape), spec_.dtype, split, false, Init::none});
  }

  void trainable(const std::string& name, layout::Shape shape, std::optional<Split> split, Init init) {
    parameters_.push_back({name, std::move(shape), core::DType::f32, split, true, init});
  }

  // [out, in], outputs (column) or inputs (row) split over tp, with its bias [out] and LoRA factors.
  void linear(const std::string& parent, const std::string& name, std::int64_t in, std::int64_t out, bool column,
              bool bias) {
    frozen(parent + name + ".weight", {out, in}, Split{column ? 0U : 1U, Axis::tp});
    if (bias) frozen(parent + name + ".bias", {out}, column ? std::optional(Split{0, Axis::tp}) : std::nullopt);
    if (!spec_.lora || !spec_.lora->has(name)) return;
    const std::int64_t rank = spec_.lora->rank;
    const auto split_a = column ? std::nullopt : std::optional(Split{1, Axis::tp});
    const auto split_b = column ? std::optional(Split{0, Axis::tp}) : std::nullopt;
    trainable(parent + name + ".lora_A.weight", {rank, in}, split_a, Init::kaiming_uniform);
    trainable(parent + name + ".lora_B.weight", {out, rank}, split_b, Init::zeros);
  }

  void layer(std::int64_t n) {
    const std::string prefix = layer_prefix(n);
    const std::string attention = prefix + "self_attn.";
    const Biases& biases = spec_.biases;
    const std::int64_t hidden = spec_.hidden;
    const std::int64_t queries = spec_.heads * spec_.head_dim;
    const std::int64_t keys = spec_.kv_heads * spec_.head_dim;
    frozen(prefix + "input_layernorm.weight", {hidden}, {});
    linear(attention, "q_proj", hidden, queries, true, biases.qkv);
    linear(attention, "k_proj", hidden, keys, true, biases.qkv);
    linear(attention, "v_proj", hidden, keys, true, biases.qkv);
    linear(attention, "o_proj", queries, hidden, false, biases.attention_out);
    frozen(prefix + "post_attention_layernorm.weight", {hidden}, {});
    linear(prefix + "mlp.", "gate_proj", hidden, spec_.ffn, true, biases.feed_forward);
    linear(prefix + "mlp.", "up_proj", hidden, spec_.ffn, true, biases.feed_forward);
    linear(prefix + "mlp.", "down_proj", spec_.ffn, hidden, false, biases.feed_forward);
    if (spec_.pesc) mixture(prefix + "mlp.moe_adapter.", *spec_.pesc);
  }

  std::vector<ParameterSpec> build() {
    frozen("model.embed_tokens.weight", {spec_.vocabulary, spec_.hidden}, Split{0, Axis::tp});
    for (std::int64_t n = 0; n < spec_.layers; ++n) layer(n);
    frozen("model.norm.weight", {spec_.hidden}, {});
    if (!spec_.tied_embeddings) frozen("lm_head.weight", {spec_.vocabulary, spec_.hidden}, Split{0, Axis::tp});
    return std::move(parameters_);
  }

 private:
  void mixture(const std::string& prefix, const Pesc& pesc) {
    const Split by_expert{0, Axis::ep};
    trainable(prefix + "router.weight", {pesc.experts, spec_.hidden}, {}, Init::kaiming_uniform);
    trainable(prefix + "experts.adapter_down.weight", {pesc.experts, pesc.adapter_dim, spec_.hidden}, by_expert,
              Init::kaiming_uniform);
    // Zero, so that the upcycled model computes exactly what the dense one does.
    trainable(prefix + "experts.adapter_up.weight", {pesc.experts, spec_.hidden, pesc.adapter_dim}, by_expert,
              Init::zeros);
  }

  const ModelSpec& spec_;
  std::vector<ParameterSpec> parameters_;
};

}  // namespace

std::string layer_prefix(std::int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }

std::vector<ParameterSpec> parameter_specs(const ModelSpec& spec) { return Builder(spec).build(); }

std::int64_t count_elements(const std::vector<ParameterSpec>& parameters, bool trainable_only) {
  std::int64_t count = 0;
  for (const ParameterSpec& parameter : parameters) {
    if (parameter.trainable || !trainable_only) count += layout::element_count(parameter.shape);
  }
  return count;
}

}  // namespace caravan::family
