// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_layer.hpp"

#include "family/parameters.hpp"
#include "model/norm.hpp"

namespace caravan::model {

DecoderLayer::DecoderLayer(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                           parallel::Parameters& parameters)
    : eps_(spec.norm_eps),
      attention_norm_(parameters.frozen_vector(family::layer_prefix(layer) + "input_layernorm.weight")),
      feed_forward_norm_(parameters.frozen_vector(family::layer_prefix(layer) + "post_attention_layernorm.weight")),
      attention_(context, spec, layer, parameters),
      feed_forward_(context, spec, layer, parameters) {
  if (spec.pesc) mixture_.emplace(context, spec, layer, parameters);
}

parallel::Activation DecoderLayer::attend(const parallel::Activation& hidden, const Pass& pass) const {
  const parallel::Activation x = rms_norm(hidden, attention_norm_, eps_, pass.cheap());
  return sum(hidden, attention_.forward(x, pass), pass.costly());
}

parallel::Activation DecoderLayer::feed_forward_input(const parallel::Activation& attended,
                                                      parallel::Recall recall) const {
  return rms_norm(attended, feed_forward_norm_, eps_, recall);
}

parallel::Activation DecoderLayer::forward(const parallel::Activation& hidden, const Pass& pass) const {
  const parallel::Activation attended = attend(hidden, pass);
  const parallel::Activation x = feed_forward_input(attended, pass.cheap());
  const parallel::Activation y = feed_forward_.forward(x, pass);
  return sum(attended, mixture_ ? mixture_->forward(x, y, pass) : y, pass.layer_output());
}

}  // namespace caravan::model
