// SPDX-License-Identifier: Apache-2.0
#include "convert/export.hpp"

#include <nlohmann/json.hpp>

#include "family/families.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {

using nlohmann::json;

family::ModelSpec exported_spec(const family::ModelSpec& spec, core::DType dtype) {
  family::ModelSpec exported = spec;
  exported.lora.reset();
  exported.dtype = dtype;
  return exported;
}

std::string exported_config(const std::string& text, const family::ModelSpec& spec, core::DType dtype) {
  const family::ModelSpec exported = exported_spec(spec, dtype);
  json config = json::parse(family::crafted_config(text, exported));
  if (config.contains("caravan")) {
    config["caravan"].erase("lora");
    if (config["caravan"].empty()) config.erase("caravan");
  }
  config.erase("dtype");  // transformers 5's name of torch_dtype
  config["torch_dtype"] = core::name_of(dtype);
  const family::Family& family = family::family_of(spec.model_type);
  config["architectures"] = {family.architecture};
  if (!family.auto_config.empty()) {
    config["auto_map"] = {{"AutoConfig", family.auto_config}, {"AutoModelForCausalLM", family.auto_model}};
  }
  return config.dump(2) + "\n";
}

ExportReport write_model_folder(comm::Communicator& world, const ExportRequest& request) {
  const std::vector<TensorFile> files =
      model_files(request.folder, export_tensors(request.spec, request.dtype), request.shard_bytes);
  const double scale = request.spec.lora ? request.spec.lora->scale() : 0.0;
  return write_tensor_files(world, request.source, scale, files, [&] {
    if (files.size() > 1) {
      io::write_file_atomically(request.folder / "model.safetensors.index.json", index_text(files));
    }
    write_companions(
        request.companions, request.folder,
        exported_config(io::read_file(request.companions.model / "config.json"), request.spec, request.dtype));
  });
}

}  // namespace caravan::convert
