// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/complaints.hpp"
#include "core/options.hpp"

namespace caravan::family {

/// Section [model].
struct ModelOptions {
  std::string base;
  std::string adapter;
  std::string store;
  double rope_theta = 0;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit(
        "base", base, core::path(),
        "Hugging Face folder of the base model, dense or with adapters: config.json, *.safetensors and the tokenizer");
    visit("adapter", adapter, core::path(),
          "PEFT LoRA folder to begin with: adapter_config.json, adapter_model.safetensors and, where caravan export "
          "wrote it, pesc/; empty: new LoRA updates and experts as [lora] and [upcycle] describe them");
    visit("store", store, core::path(),
          "folder of the step-0 checkpoint, which upcycle writes and which holds the frozen tensors; empty: "
          "checkpoints/step-00000000 in run.folder");
    visit("rope_theta", rope_theta, core::real(0, 1e12),
          "base of the rotary position embedding; 0: rope_theta of config.json");
  }

  void need_base(core::Complaints& complaints, std::string_view why) const {
    complaints.need(base, "model", "base", why);
  }
};

/// Section [lora]: low-rank updates of the linears (Hu et al., "LoRA", ICLR 2022).
struct LoraOptions {
  std::int64_t rank = 64;
  double alpha = 16;
  double dropout = 0.1;
  bool rslora = false;
  std::vector<std::string> targets{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("rank", rank, core::whole(0, 65536), "inner dimension of the LoRA updates; 0: no LoRA");
    visit("alpha", alpha, core::above(0, 1e6), "each LoRA update is multiplied by alpha / rank");
    visit("rslora", rslora, core::flag(), "multiply by alpha / sqrt(rank) instead (rank-stabilised LoRA)");
    visit("dropout", dropout, core::real(0, 0.999),
          "dropout probability on the inputs of the LoRA updates, in training");
    visit("targets", targets,
          core::one_of({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
          "linear layers that get a LoRA update");
  }
};

}  // namespace caravan::family
