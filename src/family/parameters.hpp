// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "family/model_spec.hpp"
#include "layout/parameter_spec.hpp"

namespace caravan::family {

/// Short names: H hidden, F ffn, V vocabulary, E experts, D adapter_dim, r LoRA rank; q = heads · head_dim.
/// All tensors of the model, in the order of a forward pass. Names are Hugging Face's, except that a layer's experts
/// are one tensor each way: "…mlp.moe_adapter.experts.adapter_down.weight" [E, D, H] and "….adapter_up.weight"
/// [E, H, D], split over ep. A linear's LoRA factors are "<linear>.lora_A.weight" [r, in] and
/// "<linear>.lora_B.weight" [out, r].
/// Over tp: column-parallel q, k, v, gate, up split their outputs (with B, not A); row-parallel o, down their inputs
/// (with A, not B); embedding and head the vocabulary. Biases go with the outputs. Tied embeddings have no head.
/// Trainable (fp32): router, adapters, LoRA factors.
std::vector<layout::ParameterSpec> parameter_specs(const ModelSpec& spec);

/// "model.layers.N."
std::string layer_prefix(std::int64_t layer);

/// Elements of the tensors, of all or of the trainable ones.
std::int64_t count_elements(const std::vector<layout::ParameterSpec>& parameters, bool trainable_only);

}  // namespace caravan::family
