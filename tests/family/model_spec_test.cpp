// SPDX-License-Identifier: Apache-2.0
#include "family/model_spec.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "family/config_changes.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using namespace caravan::family;
using nlohmann::json;

namespace {

/// A model folder with this config.json that goes away again.
class Folder {
 public:
  explicit Folder(const std::string& config)
      : path_(fs::temp_directory_path() / ("caravan_model_spec_" + std::to_string(getpid()))) {
    fs::create_directories(path_);
    std::ofstream(path_ / "config.json") << config;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

json fixture_config(const std::string& model) { return json::parse(std::ifstream(fixture(model) + "/config.json")); }

ModelSpec read(const json& config) { return read_model_spec(Folder(config.dump()).path()); }

std::string error_of(const std::string& config) {
  const Folder folder(config);
  try {
    read_model_spec(folder.path());
  } catch (const caravan::core::Error& error) {
    CHECK(error.code() == caravan::core::ExitCode::bad_input);
    const std::string message = error.what(), file = folder.path() + "/config.json: ";
    CHECK(message.substr(0, file.size()) == file);
    return message.substr(file.size());
  }
  return "no error";
}

}  // namespace

TEST_CASE("a config.json is compared field by field with the document that the model was made with") {
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
  CHECK(spec.bos == config["bos_token_id"]);
  CHECK(spec.eos == config["eos_token_id"]);
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
      {"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}, "rope_scaling.factor = 0.5 is below 1"},
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
      {"sliding_window", 4096, "sliding_window = 4096 is not implemented; only null is"},
      {"use_sliding_window", true, "use_sliding_window = true is not implemented; only false is"},
      {"attention_bias", "yes", "attention_bias = \"yes\" is not true or false"},
      {"mlp_bias", 1, "mlp_bias = 1 is not true or false"},
      {"tie_word_embeddings", 0, "tie_word_embeddings = 0 is not true or false"},
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
      {"eos_token_id", {1, 2}, "eos_token_id = [1,2] is not a whole number from 0 to 2147483648"},
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
  for (const char* key : {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "vocab_size", "rms_norm_eps", "max_position_embeddings", "bos_token_id", "eos_token_id",
                          "torch_dtype", "topk", "moe_scaling", "adapter_dim", "num_experts"}) {
    json without = config;
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
  const std::int64_t heads = config["num_attention_heads"], experts = config["num_experts"],
                     vocabulary = config["vocab_size"];
  CHECK(changed("num_key_value_heads", heads + 1) ==
        "num_key_value_heads = " + std::to_string(heads + 1) +
            " does not divide num_attention_heads = " + std::to_string(heads));
  CHECK(changed("topk", experts + 1) ==
        "topk = " + std::to_string(experts + 1) + " exceeds num_experts = " + std::to_string(experts));
  CHECK(changed("eos_token_id", vocabulary) == "eos_token_id = " + std::to_string(vocabulary) +
                                                   " is no token of a vocabulary of " + std::to_string(vocabulary));
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
