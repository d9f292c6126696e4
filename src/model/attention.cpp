// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include "family/parameters.hpp"
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

at::Tensor Attention::forward(const at::Tensor& x, const Pass& pass) const {
  const std::vector<at::Tensor> qkv = qkv_.forward(x, pass.axis, pass.lora_mask(layer_, 0));
  const at::Tensor q = rotary_.rotate(qkv[0], pass.axis);
  const at::Tensor k = rotary_.rotate(qkv[1], pass.axis);
  const at::Tensor heads = attend(q, k, qkv[2], shape_, pass.axis.document_starts);
  return output_.forward(heads, pass.axis, pass.lora_mask(layer_, 1));
}

}  // namespace caravan::model
