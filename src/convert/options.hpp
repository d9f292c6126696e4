// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/complaints.hpp"
#include "core/options.hpp"

namespace caravan::convert {

/// Section [upcycle]: the mixture of adapters that a dense model gets. Defaults: the published models.
struct UpcycleOptions {
  std::int64_t experts = 8;
  std::int64_t topk = 2;
  std::int64_t adapter_dim = 512;
  double scaling = 0.25;
  std::int64_t seed = 42;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("experts", experts, core::whole(1, 65536), "adapters (experts) behind every feed-forward block");
    visit("topk", topk, core::whole(1, 65536), "experts to which each token is sent; at most upcycle.experts");
    visit("adapter_dim", adapter_dim, core::whole(1, 1 << 20), "inner dimension of each adapter");
    visit("scaling", scaling, core::above(0, 1e6), "factor on the adapters' output");
    visit("seed", seed, core::whole(0, std::int64_t{1} << 53), "random seed of the initial values");
  }

  void check(core::Complaints& complaints) const {
    if (topk > experts) complaints.add("upcycle.topk = ", topk, " exceeds upcycle.experts = ", experts);
  }
};

/// Element type of the exported tensors; automatic: the base's, or float32 for an adapter.
enum class ExportType : std::uint8_t { automatic, float32, bfloat16, float16 };
constexpr std::array<std::string_view, 4> spellings(ExportType) { return {"auto", "float32", "bfloat16", "float16"}; }

/// Classes that an exported folder names. pesc: our own, which the folder carries, for transformers 4.44 and later and
/// vLLM. official: those of the Camelidae and Sparsetral authors, which the folder does not carry.
enum class ExportFormat : std::uint8_t { pesc, official };
constexpr std::array<std::string_view, 2> spellings(ExportFormat) { return {"pesc", "official"}; }

/// Section [export]: the Hugging Face folder that a checkpoint becomes.
struct ExportOptions {
  std::string folder;
  bool merge = true;
  ExportType dtype = ExportType::automatic;
  ExportFormat format = ExportFormat::pesc;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("folder", folder, core::path(),
          "folder to write; empty: export-step-XXXXXXXX in run.folder, or adapter-step-XXXXXXXX when export.merge = "
          "false");
    visit("merge", merge, core::flag(),
          "true: write the whole model, with LoRA merged into its weights; false: write a PEFT adapter for model.base, "
          "with the mixture of experts in its subfolder pesc");
    visit("dtype", dtype, core::choice(),
          "element type of the exported tensors; auto: torch_dtype of the base model, or float32 when export.merge = "
          "false");
    visit(
        "format", format, core::choice(),
        "classes that load the folder; pesc: files in the folder, for transformers 4.44 and later and vLLM; official: "
        "the files that the authors of Camelidae and Sparsetral published, which the folder does not hold");
  }

  void check(core::Complaints& complaints) const {
    if (!merge && format == ExportFormat::official) {
      complaints.add("export.format = official is for whole models; with export.merge = false, leave it at pesc");
    }
  }
};

}  // namespace caravan::convert
