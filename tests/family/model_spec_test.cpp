// SPDX-License-Identifier: Apache-2.0
#include "family/model_spec.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "family/config_changes.hpp"
#include "io/safetensors.hpp"
#include "tests/family/config_folder.hpp"

namespace fs = std::filesystem;
using namespace caravan::family;
using nlohmann::json;

TEST_CASE("a config.json is compared field by field with the one the model was made with") {
  const json made{{"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}, {"rope_scaling", nullptr}, {"topk", 2}};
  const auto changes = [&](const json& file) {
    const Folder folder(file.dump(2));
    return config_changes(folder.path(), made);
  };
  CHECK(changes(made).empty());
  json edited = made;
  edited["rope_theta"] = 10000;  // the same number
  CHECK(changes(edited).empty());
  edited["rms_norm_eps"] = 1e-6;
  edited["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  edited["sliding_window"] = 64;
  edited.erase("topk");
  CHECK(changes(edited) == std::vector<std::string>{
                               "rms_norm_eps = 1e-06, but the model was made with 1e-05",
                               "rope_scaling = {\"factor\":2.0,\"type\":\"linear\"}, but the model was made with null",
                               "sliding_window = 64, but the model was made with nothing",
                               "topk = nothing, but the model was made with 2"});
  edited = made;
  edited.erase("rope_scaling");  // null and absent are two things
  CHECK(changes(edited).size() == 1);
  CHECK(config_changes("/nonexistent", json()).empty());
}

TEST_CASE("the tiny Llama's configuration is read") {
  const json config = fixture_config("llama-tiny");
  const ModelSpec spec = read_model_spec(fixture("llama-tiny"));
  CHECK(spec.model_type == "llama");
  CHECK(spec.hidden == config["hidden_size"]);
  CHECK(spec.ffn == config["intermediate_size"]);
  CHECK(spec.layers == config["num_hidden_layers"]);
  CHECK(spec.heads == config["num_attention_heads"]);
  CHECK(spec.kv_heads == config["num_key_value_heads"]);
  CHECK(spec.head_dim * spec.heads == spec.hidden);
  CHECK(spec.vocabulary == config["vocab_size"]);
  CHECK(spec.rotary.theta == config["rope_theta"]);
  CHECK(spec.norm_eps == config["rms_norm_eps"]);
  CHECK(spec.max_positions == config["max_position_embeddings"]);
  CHECK(caravan::core::name_of(spec.dtype) == config["torch_dtype"].get<std::string>());
  CHECK_FALSE(spec.pesc.has_value());
  CHECK_FALSE(spec.lora.has_value());
  CHECK(read_model_spec(fixture("llama-tiny"), 5e6).rotary.theta == 5e6);
}

TEST_CASE("the tiny Camelidae's configuration is read, adapters and all") {
  const json config = fixture_config("camelidae-tiny");
  const ModelSpec spec = read_model_spec(fixture("camelidae-tiny"));
  REQUIRE(spec.pesc.has_value());
  CHECK(spec.pesc->experts == config["num_experts"]);
  CHECK(spec.pesc->topk == config["topk"]);
  CHECK(spec.pesc->adapter_dim == config["adapter_dim"]);
  CHECK(spec.pesc->scaling == config["moe_scaling"]);
}

TEST_CASE("fields with a default may be absent, and other spellings are honoured") {
  json config = fixture_config("llama-tiny");
  for (const char* key : {"num_key_value_heads", "rope_theta", "rope_scaling", "attention_bias", "mlp_bias"})
    config.erase(key);
  ModelSpec spec = read(config);
  CHECK(spec.kv_heads == spec.heads);
  CHECK(spec.rotary.theta == 10000);
  config["head_dim"] = 2 * spec.head_dim;
  CHECK(read(config).head_dim == 2 * spec.head_dim);
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  config["dtype"] = "bfloat16";
  config.erase("torch_dtype");
  spec = read(config);
  CHECK(spec.rotary.theta == 5e5);
  CHECK(spec.dtype == caravan::core::DType::bf16);
}

TEST_CASE("an absent or null field has the default of transformers' class") {
  // configuration_llama.py, configuration_qwen2.py and configuration_mistral.py, 4.44 to 5.
  struct Case {
    const char* type;
    std::int64_t hidden, ffn, kv_heads, vocabulary, positions, window;
  };
  for (const Case& wanted :
       {Case{"llama", 4096, 11008, 32, 32000, 2048, 0}, Case{"qwen2", 4096, 22016, 32, 151936, 32768, 0},
        Case{"mistral", 4096, 14336, 8, 32000, 131072, 4096}}) {
    INFO(wanted.type);
    const ModelSpec spec = read({{"model_type", wanted.type}});
    CHECK(spec.hidden == wanted.hidden);
    CHECK(spec.ffn == wanted.ffn);
    CHECK(spec.layers == 32);
    CHECK(spec.heads == 32);
    CHECK(spec.kv_heads == wanted.kv_heads);
    CHECK(spec.head_dim == 128);
    CHECK(spec.vocabulary == wanted.vocabulary);
    CHECK(spec.norm_eps == 1e-6);
    CHECK(spec.max_positions == wanted.positions);
    CHECK(spec.window == wanted.window);
    CHECK(spec.rotary == Rotary{10000});
    CHECK_FALSE(spec.tied_embeddings);
    CHECK(spec.dtype == caravan::core::DType::f32);
  }
  json config = fixture_config("llama-tiny");
  const ModelSpec spec = read(config);
  for (const char* key : {"head_dim", "hidden_act", "rope_scaling", "rope_parameters", "attention_bias", "mlp_bias",
                          "attention_dropout", "partial_rotary_factor", "tie_word_embeddings", "layer_types",
                          "quantization_config", "sliding_window", "bos_token_id", "eos_token_id", "num_experts"}) {
    config[key] = nullptr;
  }
  CHECK(read(config) == spec);
  config["max_position_embeddings"] = nullptr;
  CHECK(read(config).max_positions == 2048);
  // null is as many key-value heads as heads, and no window, whatever an absent field means.
  const json mistral{{"model_type", "mistral"}, {"num_key_value_heads", nullptr}, {"sliding_window", nullptr}};
  CHECK(read(mistral).kv_heads == 32);
  CHECK(read(mistral).window == 0);
  CHECK(error_of(R"({"model_type": "mistral", "num_attention_heads": 4})") ==
        "num_key_value_heads = 8, the default, does not divide num_attention_heads = 4");
}

TEST_CASE("what transformers reads in another spelling is read") {
  const json config = fixture_config("llama-tiny");
  const ModelSpec spec = read(config);
  const auto with = [&](const char* key, const json& value) {
    json other = config;
    other[key] = value;
    return read(other);
  };
  CHECK(with("eos_token_id", {2, 5}) == spec);
  CHECK(with("eos_token_id", json::array()) == spec);
  CHECK(with("eos_token_id", spec.vocabulary) == spec);  // warned of: transformers does not look
  CHECK(with("bos_token_id", -1) == spec);
  CHECK(with("hidden_act", "swish") == spec);
  CHECK(with("tie_word_embeddings", 0) == spec);
  CHECK(with("max_position_embeddings", static_cast<double>(spec.max_positions)) == spec);
  CHECK(with("attention_bias", 1).biases.qkv);
  // Fields of other families' classes.
  CHECK(with("sliding_window", 4096) == spec);
  CHECK(with("use_sliding_window", true) == spec);
  for (const auto& [name, type] :
       {std::pair{"half", caravan::core::DType::f16}, std::pair{"torch.bfloat16", caravan::core::DType::bf16},
        std::pair{"float", caravan::core::DType::f32}, std::pair{"float64", caravan::core::DType::f32}}) {
    CHECK(with("torch_dtype", name).dtype == type);
  }
  json untyped = config;
  untyped.erase("model_type");
  untyped["architectures"] = {"LlamaForCausalLM"};
  CHECK(read(untyped) == spec);

  json qwen2 = fixture_config("qwen2-tiny");
  const ModelSpec plain = read(qwen2);
  qwen2["attention_bias"] = false;  // Qwen2's class always has it
  CHECK(read(qwen2) == plain);
  qwen2["use_sliding_window"] = true;
  qwen2["sliding_window"] = 16;
  qwen2["max_window_layers"] = plain.layers;  // no layer has a window
  CHECK(read(qwen2) == plain);
  qwen2["max_window_layers"] = plain.layers - 1;
  CHECK(error_of(qwen2.dump()) == "use_sliding_window = true is not implemented; only false is");
}

TEST_CASE("without a type in config.json the frozen tensors keep that of the files") {
  json config = fixture_config("llama-tiny");
  config.erase("torch_dtype");
  const Folder folder(config.dump());
  CHECK(read_model_spec(folder.path()).dtype == caravan::core::DType::f32);
  const std::vector<std::uint16_t> values(4);
  for (const auto type : {caravan::core::DType::bf16, caravan::core::DType::f16}) {
    caravan::io::write_safetensors(folder.path() + "/model.safetensors",
                                   {{"model.embed_tokens.weight", {2, 2}, type, values.data()}});
    CHECK(read_model_spec(folder.path()).dtype == type);
  }
  // A crafted model stands without these files, so that its configuration says it.
  const ModelSpec spec = crafted(read_model_spec(folder.path()), {4, 2, 16, 0.25}, {});
  CHECK(read_model_spec(Folder(crafted_config(config.dump(), spec)).path()) == spec);
}

TEST_CASE("a field whose meaning is not implemented is refused by name and value") {
  struct Case {
    const char* field;
    json value;
    const char* message;
  };
  const std::vector<Case> cases{
      {"model_type", "gpt2",
       "model_type = \"gpt2\" is not supported; supported are llama, camelidae, qwen2, qwen2idae, mistral and "
       "sparsetral"},
      {"rope_scaling", {{"type", "linear"}}, "field rope_scaling.factor is missing"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 0}}, "rope_scaling.factor = 0 is not a number above 0"},
      {"rope_scaling", {{"factor", 2}}, "field rope_scaling.rope_type is missing"},
      {"rope_scaling",
       {{"type", "linear"}, {"rope_type", "dynamic"}, {"factor", 2}},
       "rope_scaling.type = \"linear\" contradicts rope_type = \"dynamic\""},
      {"rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 8},
        {"low_freq_factor", 4},
        {"high_freq_factor", 1},
        {"original_max_position_embeddings", 32}},
       "rope_scaling.high_freq_factor = 1 is not above low_freq_factor = 4"},
      {"rope_parameters",
       {{"rope_type", "yarn"}, {"rope_theta", 1e6}},
       "rope_parameters.rope_type = \"yarn\" is not implemented; linear, dynamic and llama3 are"},
      {"attention_bias", "yes", "attention_bias = \"yes\" is not true or false"},
      {"mlp_bias", 2, "mlp_bias = 2 is not true or false"},
      {"hidden_act", "gelu", "hidden_act = \"gelu\" is not implemented; only \"silu\" is"},
      {"quantization_config",
       {{"load_in_4bit", true}},
       "quantization_config = {\"load_in_4bit\":true} is not implemented; only null is"},
      {"partial_rotary_factor", 0.5, "partial_rotary_factor = 0.5 is not implemented; only 1.0 is"},
      {"attention_dropout", 0.1, "attention_dropout = 0.1 is not implemented; only 0.0 is"},
      {"layer_types",
       {"full_attention", "sliding_attention"},
       "layer_types = [\"full_attention\",\"sliding_attention\"] is not implemented; only \"full_attention\" is"},
      {"torch_dtype", "int8", "torch_dtype = \"int8\" is not supported; supported are float32, bfloat16 and float16"},
      {"hidden_size", 0, "hidden_size = 0 is not a whole number from 1 to 2147483648"},
      {"hidden_size", 64.5, "hidden_size = 64.5 is not a whole number from 1 to 2147483648"},
      {"hidden_size", "64", "hidden_size = \"64\" is not a whole number from 1 to 2147483648"},
      {"vocab_size", 18446744073709551615ULL,
       "vocab_size = 18446744073709551615 is not a whole number from 1 to 2147483648"},
      {"num_hidden_layers", 1 << 30, "num_hidden_layers = 1073741824 is not a whole number from 1 to 65536"},
      {"rms_norm_eps", -1e-5, "rms_norm_eps = -1e-05 is not a number above 0"},
      {"rope_theta", "big", "rope_theta = \"big\" is not a number above 0"},
      {"model_type", "camelidae",
       "model_type = \"camelidae\" needs the fields num_experts, topk, adapter_dim and moe_scaling"},
      {"num_experts", 4, "field adapter_dim is missing"},
      {"adapter_dim", 4, "field num_experts is missing"}};
  for (const Case& item : cases) {
    json config = fixture_config("llama-tiny");
    config[item.field] = item.value;
    INFO(item.field);
    CHECK(error_of(config.dump()) == item.message);
  }
}

TEST_CASE("missing and contradictory fields are named") {
  const json config = fixture_config("camelidae-tiny");
  for (const char* key : {"model_type", "topk", "moe_scaling", "adapter_dim", "num_experts"}) {
    json without = config;
    without.erase("architectures");
    without.erase(key);
    CHECK(error_of(without.dump()) == std::string("field ") + key + " is missing");
    without[key] = nullptr;
    CHECK(error_of(without.dump()) == std::string("field ") + key + " is missing");
  }
  const auto changed = [&](const char* key, const json& value) {
    json other = config;
    other[key] = value;
    return error_of(other.dump());
  };
  const std::int64_t heads = config["num_attention_heads"], experts = config["num_experts"];
  CHECK(changed("num_key_value_heads", heads + 1) ==
        "num_key_value_heads = " + std::to_string(heads + 1) +
            " does not divide num_attention_heads = " + std::to_string(heads));
  CHECK(changed("topk", experts + 1) ==
        "topk = " + std::to_string(experts + 1) + " exceeds num_experts = " + std::to_string(experts));
  CHECK(changed("head_dim", 7) == "the head dimension 7 is odd; rotary embedding turns pairs of elements");
  CHECK(error_of("[1]") == "not a JSON object");
  CHECK(error_of("{").starts_with("not valid JSON: "));
  CHECK_THROWS_WITH(read_model_spec("/nonexistent"),
                    "/nonexistent/config.json: cannot be read; a model folder holds config.json");
}

TEST_CASE("a crafted model's configuration is read back") {
  const ModelSpec dense = read_model_spec(fixture("llama-tiny"), 20000);
  const std::string base = fixture_config("llama-tiny").dump();
  for (const auto& lora : {std::optional<Lora>{}, std::optional(Lora{8, 16, {"q_proj", "down_proj"}}),
                           std::optional(Lora{8, 16, {"q_proj", "down_proj"}, /*rank_stabilised=*/true})}) {
    const ModelSpec spec = crafted(dense, {4, 2, 16, 0.25}, lora);
    const Folder folder(crafted_config(base, spec));
    CHECK(read_model_spec(folder.path()) == spec);
  }
  const ModelSpec mixture = read_model_spec(fixture("camelidae-tiny"));
  CHECK(crafted(mixture, {mixture.pesc->experts + 1, 1, 8, 1}, {}) == mixture);
  CHECK_THROWS_WITH(crafted(dense, {4, 5, 16, 0.25}, {}), "upcycle.topk = 5 exceeds upcycle.experts = 4");
}

TEST_CASE("LoRA options are checked") {
  CHECK_FALSE(lora_of({.rank = 0, .targets = {}}).has_value());
  CHECK(lora_of({.rank = 8, .alpha = 4, .targets = {"k_proj"}}) == Lora{8, 4, {"k_proj"}});
  CHECK(lora_of({.targets = {"up_proj", "q_proj"}})->targets == std::vector<std::string>{"q_proj", "up_proj"});
  CHECK_THROWS_WITH(lora_of({.targets = {}}), "lora.targets names no linear; name some, or set lora.rank = 0");
  CHECK_THROWS_WITH(lora_of({.targets = {"k_proj", "k_proj"}}), "lora.targets names k_proj twice");
}
