// SPDX-License-Identifier: Apache-2.0
// What today's programs demand of an exported folder's config.json and classes, as far as it shows without them.
#include "convert/exported_config.hpp"

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "convert/transformers_classes.hpp"
#include "family/families.hpp"
#include "io/atomic_file.hpp"
#include "tests/convert/trained.hpp"

using namespace caravan;
using namespace caravan::tests;
using nlohmann::json;

namespace {

const convert::ExportedAs ours{core::DType::bf16, convert::ExportFormat::pesc, 0.1};
const convert::ExportedAs official{core::DType::bf16, convert::ExportFormat::official, 0.1};

family::ModelSpec crafted_from(const std::string& base) {
  return family::crafted(family::read_model_spec(family::fixture(base)), {4, 2, 16, 0.25}, family::Lora{});
}

/// The configuration that upcycle would write for a base with these fields, exported.
json exported(const std::string& base, const json& fields = json::object(), const convert::ExportedAs& as = ours) {
  family::ModelSpec spec = crafted_from(base);
  json config = json::parse(io::read_file(std::filesystem::path(family::fixture(base)) / "config.json"));
  config.merge_patch(fields);  // null takes a field away
  spec.rotary = family::read_rotary(family::ConfigFields("config.json", config), spec.max_positions);
  return json::parse(convert::exported_config(family::crafted_config(config.dump(), spec), spec, as));
}

std::string text_of(std::string_view file) {
  for (const convert::ClassFile& one : convert::transformers_classes()) {
    if (one.name == file) return std::string(one.text);
  }
  return "";
}

bool defines(const std::string& python, const std::string& name) {
  return std::regex_search(python, std::regex("\nclass " + name + "\\("));
}

}  // namespace

TEST_CASE("architecture and auto_map name classes that the folder holds") {
  const std::string configuration = text_of("configuration_pesc.py"), modeling = text_of("modeling_pesc.py");
  for (const auto& [base, classes] : {std::pair{"llama-tiny", "Camelidae"},
                                      {"qwen2-tiny", "Qwen2idae"},
                                      {"mistral-tiny", "Sparsetral"},
                                      {"camelidae-tiny", "Camelidae"}}) {
    CAPTURE(base);
    const json config = exported(base);
    const std::string name = classes;
    CHECK(config.at("architectures") == json::array({name + "ForCausalLM"}));
    // vLLM needs AutoModel.
    CHECK(config.at("auto_map") == json{{"AutoConfig", "configuration_pesc." + name + "Config"},
                                        {"AutoModel", "modeling_pesc." + name + "Model"},
                                        {"AutoModelForCausalLM", "modeling_pesc." + name + "ForCausalLM"}});
    CHECK(defines(configuration, name + "Config"));
    CHECK(defines(modeling, name + "Model"));
    CHECK(defines(modeling, name + "ForCausalLM"));
    // A model_type of transformers' own would load as a dense model.
    CHECK(configuration.find("model_type = " + config.at("model_type").dump()) != std::string::npos);
    for (const char* dense : {"llama", "qwen2", "mistral"}) CHECK(config.at("model_type") != dense);
    for (const char* field : {"num_experts", "topk", "adapter_dim", "moe_scaling"}) CHECK(config.contains(field));
    CHECK(config.at("adapter_dropout") == 0.1);
    CHECK(config.at("torch_dtype") == "bfloat16");
    CHECK_FALSE(config.contains("dtype"));
    CHECK_FALSE(config.contains("caravan"));
  }
}

TEST_CASE("nothing in the classes makes other programs take them for their experts") {
  const std::string configuration = text_of("configuration_pesc.py"), modeling = text_of("modeling_pesc.py");
  // transformers, vLLM and SGLang look for the attribute num_experts of a configuration in memory.
  CHECK(configuration.find("fields.pop(\"num_experts\"") != std::string::npos);
  CHECK(configuration.find("self.num_experts") == std::string::npos);
  CHECK(modeling.find("num_experts") == std::string::npos);
  // They replace a ModuleList named experts.
  CHECK(modeling.find("self.experts = nn.ModuleDict(") != std::string::npos);
  CHECK(modeling.find("ModuleList") == std::string::npos);
  const std::regex class_name("\nclass ([A-Za-z0-9]+)");
  for (std::sregex_iterator found(modeling.begin(), modeling.end(), class_name), end; found != end; ++found) {
    const std::string name = (*found)[1];
    CAPTURE(name);
    CHECK(name.find("moe") == std::string::npos);
    CHECK(name.find("MoE") == std::string::npos);
  }
  // 4-bit loading quantises linears; vLLM fuses this expression; and experts of other names find no tensors.
  CHECK(modeling.find("self.weight = nn.Parameter(") != std::string::npos);
  CHECK(modeling.find("self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))") != std::string::npos);
  CHECK(configuration.find("expert_name = \"" + family::family_of("llama").expert_prefix + "{}\"") !=
        std::string::npos);
}

TEST_CASE("the official format names the published classes") {
  const json config = exported("llama-tiny", json::object(), official);
  CHECK(config.at("architectures") == json::array({"LlamaForCausalLM"}));
  CHECK(config.at("auto_map") == json{{"AutoConfig", "configuration_camelidae.CamelidaeConfig"},
                                      {"AutoModelForCausalLM", "modeling_camelidae.LlamaForCausalLM"}});
  CHECK_FALSE(config.contains("adapter_dropout"));
  // The official files' own model_type stays.
  CHECK(exported("camelidae-tiny", json::object(), official).at("model_type") == "llama");
  CHECK_FALSE(exported("qwen2-tiny", json::object(), official).contains("auto_map"));
}

TEST_CASE("the rotary base stands where transformers 4 and 5 look for it") {
  // As transformers 5 saves: no rope_theta. Version 4 would compute with 10000.
  const json newer{{"rope_theta", nullptr},
                   {"rope_scaling", nullptr},
                   {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}};
  for (const convert::ExportedAs& as : {ours, official}) {
    const json config = exported("llama-tiny", newer, as);
    CHECK(config.at("rope_theta") == 5e5);
    CHECK(config.at("rope_scaling").is_null());
    // Version 4 would leave it as it is when the other two are changed, and version 5 take it then.
    CHECK_FALSE(config.contains("rope_parameters"));
  }
  const json scaled{{"rope_theta", nullptr},
                    {"rope_scaling", nullptr},
                    {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 5e5}}}};
  const json config = exported("llama-tiny", scaled);
  CHECK(config.at("rope_theta") == 5e5);
  CHECK(config.at("rope_scaling") == json{{"rope_type", "linear"}, {"factor", 4.0}});
  CHECK_FALSE(config.contains("rope_parameters"));
  // As transformers 4 saves: a scaling keeps the name that it had.
  const json older = exported("llama-tiny", {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}});
  CHECK(older.at("rope_theta") == 10000);
  CHECK(older.at("rope_scaling") == json{{"type", "linear"}, {"rope_type", "linear"}, {"factor", 4.0}});
  CHECK_FALSE(older.contains("rope_parameters"));
}

TEST_CASE("a llama3 scaling has the positions that Caravan computes with") {
  json llama3{{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
  const auto written = [&] {
    return exported("llama-tiny", {{"rope_scaling", llama3}, {"rope_theta", 10000}}).at("rope_scaling");
  };
  // transformers 4 cannot load a file without them; 5 takes max_position_embeddings.
  const std::int64_t positions = crafted_from("llama-tiny").max_positions;
  CHECK(written().at("original_max_position_embeddings") == positions);
  llama3["original_max_position_embeddings"] = positions / 2;
  CHECK(written() == llama3);
}
