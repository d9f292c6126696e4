// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.hpp"

#include <ATen/core/grad_mode.h>

#include "model/norm.hpp"

namespace caravan::model {

Decoder::Decoder(const parallel::Context& context, const family::ModelSpec& spec, parallel::Parameters& parameters)
    : context_(context),
      spec_(spec),
      embedding_(parameters.frozen("model.embed_tokens.weight")),
      norm_(parameters.frozen_vector("model.norm.weight")),
      head_(spec.tied_embeddings ? embedding_ : parameters.frozen("lm_head.weight")) {
  layers_.reserve(static_cast<std::size_t>(spec.layers));
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) layers_.emplace_back(context, spec, layer, parameters);
}

at::Tensor Decoder::embed(const Pass& pass) const {
  at::Tensor hidden = parallel::embed(context_, embedding_, pass.axis);
  // The embedding is frozen, but the first layer's trainables need a graph to hang from.
  if (at::GradMode::is_enabled()) hidden.requires_grad_();
  return hidden;
}

at::Tensor Decoder::forward(const Pass& pass) const {
  parallel::Activation hidden = embed(pass);
  for (const DecoderLayer& layer : layers_) hidden = layer.forward(hidden, pass);
  return rms_norm(hidden, norm_, spec_.norm_eps, parallel::Recall::kept);
}

parallel::TokenLoss Decoder::loss(const at::Tensor& hidden, const parallel::TokenTargets& targets, double scale) const {
  return parallel::token_loss(context_, head_, spec_.vocabulary, hidden, targets, scale);
}

at::Tensor Decoder::logits(const at::Tensor& hidden, const at::Tensor& rows) const {
  return parallel::logits(context_, head_, spec_.vocabulary, hidden, rows);
}

}  // namespace caravan::model
