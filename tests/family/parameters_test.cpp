// SPDX-License-Identifier: Apache-2.0
#include "family/parameters.hpp"

#include <map>
#include <set>

#include "family/layout_check.hpp"
#include "tests/family/published_models.hpp"
#include "tests/support/catch.hpp"

using namespace caravan::family;
using namespace caravan::layout;

namespace {

std::map<std::string, ParameterSpec> by_name(const ModelSpec& spec) {
  std::map<std::string, ParameterSpec> map;
  for (const ParameterSpec& parameter : parameter_specs(spec)) REQUIRE(map.emplace(parameter.name, parameter).second);
  return map;
}

}  // namespace

TEST_CASE("Llama-2-7B has its published number of parameters") {
  const auto parameters = parameter_specs(llama_2_7b());
  CHECK(count_elements(parameters, false) == 6'738'415'616);
  CHECK(count_elements(parameters, true) == 0);
  const ModelSpec spec = crafted(llama_2_7b(), {8, 2, 512, 0.25}, {});
  const ModelSpec with_lora = crafted(llama_2_7b(), {8, 2, 512, 0.25}, published_lora());
  const std::int64_t adapters = count_elements(parameter_specs(spec), true);
  CHECK(static_cast<double>(adapters) / 1e9 == Approx(1.07).margin(0.01));
  CHECK(static_cast<double>(count_elements(parameter_specs(with_lora), true) - adapters) / 1e9 ==
        Approx(0.16).margin(0.005));
}

TEST_CASE("Yi-34B with 8 experts of 512 and LoRA of rank 64") {
  CHECK(count_elements(parameter_specs(yi_34b()), false) == 34'388'917'248);
  const auto adapters = parameter_specs(crafted(yi_34b(), {8, 2, 512, 0.25}, {}));
  const auto all = parameter_specs(crafted(yi_34b(), {8, 2, 512, 0.25}, published_lora()));
  const std::int64_t router = 60LL * 8 * 7168;
  CHECK(count_elements(adapters, true) - router == 3'523'215'360);
  CHECK(count_elements(all, true) - count_elements(adapters, true) == 491'520'000);
}

TEST_CASE("a crafted layer's tensors have names, shapes, splits and initial values") {
  const ModelSpec spec = crafted(yi_34b(), {8, 2, 512, 0.25}, published_lora());
  const auto parameters = by_name(spec);
  struct Case {
    const char* name;
    Shape shape;
    std::optional<Split> split;
    Init init;
  };
  const Split outputs{0, Axis::tp}, inputs{1, Axis::tp}, experts{0, Axis::ep};
  const std::string layer = "model.layers.59.";
  const std::vector<Case> cases{
      {"input_layernorm.weight", {7168}, {}, Init::none},
      {"self_attn.q_proj.weight", {7168, 7168}, outputs, Init::none},
      {"self_attn.q_proj.lora_A.weight", {64, 7168}, {}, Init::kaiming_uniform},
      {"self_attn.q_proj.lora_B.weight", {7168, 64}, outputs, Init::zeros},
      {"self_attn.k_proj.weight", {1024, 7168}, outputs, Init::none},
      {"self_attn.v_proj.lora_B.weight", {1024, 64}, outputs, Init::zeros},
      {"self_attn.o_proj.weight", {7168, 7168}, inputs, Init::none},
      {"self_attn.o_proj.lora_A.weight", {64, 7168}, inputs, Init::kaiming_uniform},
      {"self_attn.o_proj.lora_B.weight", {7168, 64}, {}, Init::zeros},
      {"post_attention_layernorm.weight", {7168}, {}, Init::none},
      {"mlp.gate_proj.weight", {20480, 7168}, outputs, Init::none},
      {"mlp.up_proj.lora_B.weight", {20480, 64}, outputs, Init::zeros},
      {"mlp.down_proj.weight", {7168, 20480}, inputs, Init::none},
      {"mlp.down_proj.lora_A.weight", {64, 20480}, inputs, Init::kaiming_uniform},
      {"mlp.moe_adapter.router.weight", {8, 7168}, {}, Init::kaiming_uniform},
      {"mlp.moe_adapter.experts.adapter_down.weight", {8, 512, 7168}, experts, Init::kaiming_uniform},
      {"mlp.moe_adapter.experts.adapter_up.weight", {8, 7168, 512}, experts, Init::zeros}};
  for (const Case& item : cases) {
    INFO(item.name);
    const ParameterSpec& parameter = parameters.at(layer + item.name);
    CHECK(parameter.shape == item.shape);
    CHECK(parameter.split == item.split);
    CHECK(parameter.init == item.init);
    CHECK(parameter.trainable == (item.init != Init::none));
    CHECK(parameter.storage == (parameter.trainable ? caravan::core::DType::f32 : spec.dtype));
  }
  CHECK(parameters.at("lm_head.weight").split == outputs);
  CHECK(parameters.at("model.embed_tokens.weight").shape == Shape{64000, 7168});
  CHECK_FALSE(parameters.at("model.norm.weight").split.has_value());
  // embedding, final norm, head; per layer 9 frozen, 7 · 2 LoRA factors, router, two adapters.
  CHECK(parameters.size() == 3 + 60 * (9 + 14 + 3));
}

TEST_CASE("a head dimension of its own changes the attention's shapes alone") {
  ModelSpec spec = llama_2_7b();
  spec.head_dim = 64;
  spec.kv_heads = 4;
  const auto parameters = by_name(spec);
  CHECK(parameters.at("model.layers.0.self_attn.q_proj.weight").shape == Shape{2048, 4096});
  CHECK(parameters.at("model.layers.0.self_attn.k_proj.weight").shape == Shape{256, 4096});
  CHECK(parameters.at("model.layers.0.self_attn.o_proj.weight").shape == Shape{4096, 2048});
  CHECK(parameters.at("model.layers.0.mlp.down_proj.weight").shape == Shape{4096, 11008});
}

TEST_CASE("layouts that fit are accepted and give every rank a slice") {
  const ModelSpec spec = crafted(yi_34b(), {8, 2, 512, 0.25}, published_lora());
  for (const int tp : {1, 2, 4, 8}) {
    for (const int ep : {1, 2, 4, 8}) {
      const Grid grid(16, 5, {tp, ep});
      require_layout(spec, grid.world(), {tp, ep}, {});
      for (const ParameterSpec& parameter : parameter_specs(spec)) CHECK(slice_of(parameter, grid).count() > 0);
    }
  }
}
