// SPDX-License-Identifier: Apache-2.0
#include "family/families.hpp"

#include <vector>

#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::family {
namespace {

const std::vector<Family>& families() {
  static const std::vector<Family> all{
      {"llama", "camelidae", "expert_", "LlamaForCausalLM", "Camelidae", "configuration_camelidae.CamelidaeConfig",
       "modeling_camelidae.LlamaForCausalLM"},
      {"qwen2", "qwen2idae", "expert_", "Qwen2ForCausalLM", "Qwen2idae", "", ""},
      {"mistral", "sparsetral", "", "MistralForCausalLM", "Sparsetral", "configuration_sparsetral.SparsetralConfig",
       "modeling_sparsetral.MistralForCausalLM"},
  };
  return all;
}

}  // namespace

const Family* find_family(const std::string& model_type) {
  for (const Family& family : families()) {
    if (family.dense == model_type || family.crafted == model_type) return &family;
  }
  return nullptr;
}

const Family& family_of(const std::string& model_type) {
  const Family* family = find_family(model_type);
  CARAVAN_CHECK(family != nullptr, model_type);
  return *family;
}

std::string supported_model_types() {
  std::vector<std::string> names;
  for (const Family& family : families()) {
    names.push_back(family.dense);
    names.push_back(family.crafted);
  }
  return core::join(names);
}

}  // namespace caravan::family
