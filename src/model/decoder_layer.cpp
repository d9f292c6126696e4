// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_layer.hpp"

#include "family/parameters.hpp"
#include "model/norm.hpp"

namespace caravan::model {

DecoderLayer::DecoderLayer(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                           parallel::Parameters& parameters)
    : eps_(spec.norm_eps),
      attention_norm_(parameters.frozen(family::layer_prefix(layer) + "input_layernorm.weight")),
      feed_forward_norm_(parameters.frozen(family::layer_prefix(layer) + "post_attention_layernorm.weight")),
      attention_(context, spec, layer, parameters),
      feed_forward_(context, spec, layer, parameters) {
  if (spec.pesc) mixture_.emplace(context, spec, layer, parameters);
}

at::Tensor DecoderLayer::attend(const at::Tensor& hidden, const Pass& pass) const {
  return hidden + attention_.forward(rms_norm(hidden, attention_norm_, eps_), pass);
}

at::Tensor DecoderLayer::feed_forward_input(const at::Tensor& attended) const {
  return rms_norm(attended, feed_forward_norm_, eps_);
}

at::Tensor DecoderLayer::forward(const at::Tensor& hidden, const Pass& pass) const {
  const at::Tensor attended = attend(hidden, pass);
  const at::Tensor x = feed_forward_input(attended);
  const at::Tensor y = feed_forward_.forward(x, pass);
  return attended + (mixture_ ? mixture_->forward(x, y, pass) : y);
}

}  // namespace caravan::model
