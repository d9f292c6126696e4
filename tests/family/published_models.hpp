// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "family/model_spec.hpp"

namespace caravan::family {

/// Llama-2-7B's shapes, from its published config.json.
inline ModelSpec llama_2_7b() {
  ModelSpec spec;
  spec.model_type = "llama";
  spec.hidden = 4096;
  spec.ffn = 11008;
  spec.layers = 32;
  spec.heads = spec.kv_heads = 32;
  spec.head_dim = 128;
  spec.vocabulary = 32000;
  spec.norm_eps = 1e-5;
  spec.dtype = core::DType::bf16;
  return spec;
}

/// Yi-34B's.
inline ModelSpec yi_34b() {
  ModelSpec spec = llama_2_7b();
  spec.hidden = 7168;
  spec.ffn = 20480;
  spec.layers = 60;
  spec.heads = 56;
  spec.kv_heads = 8;
  spec.vocabulary = 64000;
  spec.rotary.theta = 5e6;
  return spec;
}

inline Lora published_lora() { return *lora_of(LoraOptions{}); }

}  // namespace caravan::family
