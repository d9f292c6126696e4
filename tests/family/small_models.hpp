// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "family/lora.hpp"
#include "family/model_spec.hpp"

// Small PESC models of a few layers with LoRA on all linears, for tests that need no file of a model.
namespace caravan::tests {

/// One that every layout of up to four ranks divides.
inline family::ModelSpec small_spec() {
  family::ModelSpec spec;
  spec.model_type = "camelidae";
  spec.hidden = 16;
  spec.ffn = 24;
  spec.layers = 2;
  spec.heads = 8;
  spec.kv_heads = 4;
  spec.head_dim = 4;
  spec.vocabulary = 40;
  spec.norm_eps = 1e-5;
  spec.max_positions = 64;
  spec.pesc = family::Pesc{8, 2, 6, 0.5};
  spec.lora = family::Lora{3, 6, family::lora_linears()};
  return spec;
}

/// One whose every dimension divides by 8 and whose FFN width is no multiple of 64.
inline family::ModelSpec random_model_spec() {
  family::ModelSpec spec = small_spec();
  spec.hidden = 64;
  spec.ffn = 88;
  spec.heads = 16;
  spec.kv_heads = 8;
  spec.vocabulary = 96;
  spec.pesc = family::Pesc{8, 2, 8, 1.0};
  spec.lora->rank = 4;
  spec.lora->alpha = 8;
  return spec;
}

/// Yi-34B's ratios: H = 14 heads of 32, 7 query heads for a key head, F = 20/7 H, D = H/14; LoRA of rank H/112.
inline family::ModelSpec grouped_spec() {
  family::ModelSpec spec = random_model_spec();
  spec.hidden = 448;
  spec.heads = 14;
  spec.kv_heads = 2;
  spec.head_dim = 32;
  spec.ffn = 1280;
  spec.layers = 4;
  spec.pesc = family::Pesc{8, 2, 32, 1.0};
  return spec;
}

}  // namespace caravan::tests
