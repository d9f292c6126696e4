// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include "family/parameters.hpp"
#include "model/linear_parts.hpp"
#include "parallel/backward.hpp"

namespace caravan::model {
namespace {

std::string prefix_of(std::int64_t layer) { return family::layer_prefix(layer) + "self_attn."; }

/// theta^(−2i/d) in fp32, in the order of operations of transformers.
at::Tensor rotary_frequencies(const family::ModelSpec& spec, at::Device device) {
  const at::Tensor exponent = at::arange(0, spec.head_dim, 2, at::kFloat).div_(static_cast<double>(spec.head_dim));
  return at::pow(at::Scalar(spec.rope_theta), exponent).reciprocal_().to(device);
}

/// Rotates x [T, heads · d] by its positions; the gradient is rotated back.
at::Tensor rotate(const at::Tensor& x, std::int64_t head_dim, const at::Tensor& positions,
                  const at::Tensor& frequencies) {
  at::Tensor rotated = x.detach();  // in place: nobody needs the linear's output itself
  parallel::rotary(rotated, head_dim, positions, frequencies, /*inverse=*/false);
  parallel::connect("rotary", {x}, {rotated},
                    [head_dim, positions, frequencies](const std::vector<at::Tensor>& gradients) {
                      at::Tensor dx = gradients[0].contiguous();
                      parallel::rotary(dx, head_dim, positions, frequencies, /*inverse=*/true);
                      return std::vector<at::Tensor>{dx};
                    });
  return rotated;
}

}  // namespace

Attention::Attention(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                     parallel::Parameters& parameters)
    : layer_(layer),
      shape_{spec.heads / context.grid.tp(), spec.kv_heads / context.grid.tp(), spec.head_dim},
      qkv_(context,
           {linear_parts(spec, parameters, prefix_of(layer), "q_proj"),
            linear_parts(spec, parameters, prefix_of(layer), "k_proj"),
            linear_parts(spec, parameters, prefix_of(layer), "v_proj")},
           lora_scale(spec)),
      output_(context, linear_parts(spec, parameters, prefix_of(layer), "o_proj"), lora_scale(spec)),
      inverse_frequency_(rotary_frequencies(spec, context.device)) {}

at::Tensor Attention::forward(const at::Tensor& x, const Pass& pass) const {
  const std::vector<at::Tensor> qkv = qkv_.forward(x, pass.axis, pass.lora_mask(layer_, 0));
  const at::Tensor q = rotate(qkv[0], shape_.head_dim, pass.axis.positions, inverse_frequency_);
  const at::Tensor k = rotate(qkv[1], shape_.head_dim, pass.axis.positions, inverse_frequency_);
  const at::Tensor heads = attend(q, k, qkv[2], shape_, pass.axis.document_starts);
  return output_.forward(heads, pass.axis, pass.lora_mask(layer_, 1));
}

}  // namespace caravan::model
