// SPDX-License-Identifier: Apache-2.0
#include "convert/exported_config.hpp"

#include <nlohmann/json.hpp>

#include "core/json.hpp"
#include "family/families.hpp"
#include "family/rotary.hpp"

namespace caravan::convert {
namespace {

using nlohmann::json;

void name_our_classes(json& config, const family::Family& family, double adapter_dropout) {
  const std::string model = "modeling_pesc." + family.classes;
  config["adapter_dropout"] = adapter_dropout;
  config["architectures"] = {family.classes + "ForCausalLM"};
  // vLLM takes AutoModel, the others AutoModelForCausalLM.
  config["auto_map"] = {{"AutoConfig", "configuration_pesc." + family.classes + "Config"},
                        {"AutoModel", model + "Model"},
                        {"AutoModelForCausalLM", model + "ForCausalLM"}};
}

void name_official_classes(json& config, const family::Family& family) {
  config["architectures"] = {family.architecture};
  config.erase("auto_map");
  if (family.auto_config.empty()) return;
  config["auto_map"] = {{"AutoConfig", family.auto_config}, {"AutoModelForCausalLM", family.auto_model}};
}

}  // namespace

family::ModelSpec exported_spec(const family::ModelSpec& spec, const ExportedAs& as) {
  family::ModelSpec exported = spec;
  exported.lora.reset();
  exported.dtype = as.dtype;
  // The official Camelidae files call themselves llama, which makes other programs take them for a dense model.
  if (as.format == ExportFormat::pesc) exported.model_type = family::family_of(spec.model_type).crafted;
  return exported;
}

std::string exported_config(const std::string& text, const family::ModelSpec& spec, const ExportedAs& as) {
  const family::ModelSpec exported = exported_spec(spec, as);
  json config = core::parse_json(family::crafted_config(text, exported));
  if (config.contains("caravan")) {
    config["caravan"].erase("lora");
    if (config["caravan"].empty()) config.erase("caravan");
  }
  config.erase("dtype");  // transformers 5's name of torch_dtype, which it reads, too
  config["torch_dtype"] = core::name_of(as.dtype);
  family::write_rotary(config, exported.rotary);
  const family::Family& family = family::family_of(spec.model_type);
  if (as.format == ExportFormat::pesc) {
    name_our_classes(config, family, as.adapter_dropout);
  } else {
    name_official_classes(config, family);
  }
  return core::json_text(config, 2) + "\n";
}

}  // namespace caravan::convert
