// SPDX-License-Identifier: Apache-2.0
#include "convert/export_adapter.hpp"

#include "convert/chat_template.hpp"
#include "convert/companions.hpp"
#include "convert/terms.hpp"
#include "convert/transformers_classes.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "family/families.hpp"
#include "family/foreign_names.hpp"
#include "family/parameters.hpp"
#include "family/peft.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

struct Trained {
  std::vector<ExportTensor> factors;  // of LoRA, under PEFT's names
  std::vector<ExportTensor> mixture;  // under the names of the crafted model's folder
};

Trained trained_tensors(const AdapterRequest& request) {
  Trained trained;
  for (const layout::ParameterSpec& parameter : family::parameter_specs(request.spec)) {
    if (!parameter.trainable) continue;
    const auto parts = family::hugging_face_parts(request.spec, parameter);
    for (const family::ForeignPart& part : parts) {
      trained.mixture.push_back({{part.name, part.shape, request.dtype}, parameter.name, part.place, "", ""});
    }
    if (!parts.empty()) continue;
    trained.factors.push_back({{family::peft_name(parameter.name), parameter.shape, request.dtype},
                               parameter.name,
                               layout::whole(parameter.shape),
                               "",
                               ""});
  }
  return trained;
}

void write_json(const std::filesystem::path& file, const nlohmann::json& value) {
  io::write_file_atomically(file, core::json_text(value, 2) + "\n");
}

}  // namespace

void require_adapter(const family::ModelSpec& spec) {
  if (spec.lora || spec.pesc) return;
  core::bad_input(
      "export.merge = false, but the model has neither LoRA nor adapters, and an adapter folder would be empty; export "
      "with merge = true");
}

ExportReport write_adapter_folder(comm::Communicator& world, const AdapterRequest& request) {
  require_adapter(request.spec);
  const std::filesystem::path mixture = request.folder / family::peft_mixture_folder;
  Trained trained = trained_tensors(request);
  std::vector<TensorFile> files, shards;
  if (request.spec.pesc) shards = model_files(mixture, std::move(trained.mixture), request.shard_bytes);
  if (request.spec.lora) files.push_back({request.folder / "adapter_model.safetensors", std::move(trained.factors)});
  files.insert(files.end(), shards.begin(), shards.end());
  return write_tensor_files(world, request.source, 0, files, [&] {
    if (request.spec.lora) {
      write_json(request.folder / "adapter_config.json",
                 family::peft_config(*request.spec.lora, request.base, request.dropout));
    }
    if (!request.tokenizer.empty()) {
      copy_tokenizer(request.tokenizer, request.folder);
      complete_tokenizer(request.folder, request.chat_template,
                         family::family_of(request.spec.model_type).dense == "qwen2");
    }
    if (!request.terms.empty()) copy_terms(request.terms, request.folder);
    if (!request.spec.pesc) return;
    write_transformers_classes(request.folder);
    write_json(mixture / "config.json", family::peft_mixture_config(request.spec, request.expert_dropout));
    if (shards.size() > 1) io::write_file_atomically(mixture / "model.safetensors.index.json", index_text(shards));
  });
}

}  // namespace caravan::convert
