// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include "family/parameters.hpp"
#include "layout/thresholds.hpp"
#include "model/linear_parts.hpp"

namespace caravan::model {
namespace {

std::string prefix_of(std::int64_t layer) { return family::layer_prefix(layer) + "self_attn."; }

}  // namespace

Attention::Attention(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                     parallel::Parameters& parameters)
    : layer_(layer),
      shape_{spec.heads / context.grid.tp(), spec.kv_heads / context.grid.tp(), spec.head_dim, spec.window},
      qkv_(context,
           {linear_parts(spec, parameters, prefix_of(layer), "q_proj", spec.biases.qkv),
            linear_parts(spec, parameters, prefix_of(layer), "k_proj", spec.biases.qkv),
            linear_parts(spec, parameters, prefix_of(layer), "v_proj", spec.biases.qkv)},
           lora_scale(spec)),
      output_(context, linear_parts(spec, parameters, prefix_of(layer), "o_proj", spec.biases.attention_out),
              lora_scale(spec)),
      rotary_(spec, context.device) {}

parallel::Activation Attention::forward(const parallel::Activation& x, const Pass& pass) const {
  const bool grouped = shape_.heads >= layout::cheap_query_heads * shape_.kv_heads;
  const parallel::Recall recall = grouped ? pass.cheap() : pass.costly();
  const auto qkv = qkv_.forward(x, pass.axis, pass.lora_mask(layer_, 0), recall);
  const parallel::Activation q = rotary_.rotate(qkv[0], pass.axis, recall);
  const parallel::Activation k = rotary_.rotate(qkv[1], pass.axis, recall);
  const parallel::Activation heads = attend(q, k, qkv[2], shape_, pass.axis.document_starts, pass.cheap());
  return output_.forward(heads, pass.axis, pass.lora_mask(layer_, 1), pass.costly());
}

}  // namespace caravan::model
