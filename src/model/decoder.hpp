// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "model/decoder_layer.hpp"
#include "parallel/vocabulary.hpp"

namespace caravan::model {

/// The whole model on this rank: embedding, layers, last norm, head. Parameters outlive it.
class Decoder {
 public:
  Decoder(const parallel::Context& context, const family::ModelSpec& spec, parallel::Parameters& parameters);

  /// Embeddings of the pass' tokens, sequence shard [T/TP, H]: the start of the graph when gradients are on.
  at::Tensor embed(const Pass& pass) const;
  /// Output of the last norm, sequence shard [T/TP, H].
  at::Tensor forward(const Pass& pass) const;
  /// Cross-entropy of forward()'s result; see parallel::token_loss.
  parallel::TokenLoss loss(const at::Tensor& hidden, const parallel::TokenTargets& targets, double scale) const;
  /// fp32 [rows, V] of rows of the token axis; see parallel::logits.
  at::Tensor logits(const at::Tensor& hidden, const at::Tensor& rows) const;

  const std::vector<DecoderLayer>& layers() const { return layers_; }
  const family::ModelSpec& spec() const { return spec_; }

 private:
  const parallel::Context& context_;
  family::ModelSpec spec_;
  const parallel::FrozenWeight& embedding_;
  at::Tensor norm_;  // [H]
  const parallel::FrozenWeight& head_;
  std::vector<DecoderLayer> layers_;
};

}  // namespace caravan::model
