// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "family/rotary.hpp"
#include "tests/family/config_folder.hpp"

using namespace caravan::family;
using nlohmann::json;

TEST_CASE("the rotary base and scaling are taken from where transformers takes them") {
  const auto rotary = [](const json& fields) {
    json config = fixture_config("llama-tiny");
    config.erase("rope_theta");
    config.update(fields);
    return read(config).rotary;
  };
  const json linear{{"type", "linear"}, {"factor", 4.0}};
  const Rotary scaled{10000, RotaryScaling{RotaryScaling::Kind::linear, 4.0}};
  CHECK(rotary({{"rope_scaling", linear}}) == scaled);
  CHECK(rotary({{"rope_scaling", json::object()}}) == Rotary{10000});
  CHECK(rotary({{"rope_scaling", {{"rope_type", "default"}}}}) == Rotary{10000});
  CHECK(rotary({{"rope_parameters", {{"rope_theta", 5e5}}}}) == Rotary{5e5});
  CHECK(rotary({{"rope_theta", 2e4}, {"rope_parameters", {{"rope_type", "default"}}}}) == Rotary{2e4});
  json parameters = linear;
  parameters["rope_theta"] = 5e5;
  CHECK(rotary({{"rope_theta", 5e5}, {"rope_parameters", parameters}, {"rope_scaling", linear}}) ==
        Rotary{5e5, scaled.scaling});
  CHECK(rotary({{"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}}}).scaling->factor == 0.5);
  const json llama3{{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
  CHECK(rotary({{"rope_scaling", llama3}, {"max_position_embeddings", 64}}).scaling->original_positions == 64);
  json qwen2 = fixture_config("qwen2-tiny");
  qwen2["rope_scaling"] = linear;
  CHECK(read(qwen2).rotary.scaling == scaled.scaling);

  // The base that a crafted model is written with is the one that is read back.
  const ModelSpec dense = read_model_spec(fixture("llama-tiny"), 20000);
  for (const json& fields : {json{{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}},
                             json{{"rope_theta", 5e5}, {"rope_parameters", parameters}, {"rope_scaling", linear}},
                             json{{"rope_scaling", parameters}}, json{{"rope_parameters", nullptr}},
                             json{{"rope_scaling", json::object()}}}) {
    json config = fixture_config("llama-tiny");
    config.erase("rope_theta");
    config.update(fields);
    INFO(fields.dump());
    const ModelSpec spec = crafted(read_model_spec(Folder(config.dump()).path(), 20000), {4, 2, 16, 0.25}, {});
    CHECK(read_model_spec(Folder(crafted_config(config.dump(), spec)).path()) == spec);
  }
}

TEST_CASE("a step 0 of earlier versions keeps the rotary base that it was made with") {
  const ModelSpec spec =
      crafted(read_model_spec(Folder(fixture_config("llama-tiny").dump()).path()), {4, 2, 16, 0.25}, {});
  json step_0 = json::parse(crafted_config(fixture_config("llama-tiny").dump(), spec));
  step_0.update({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}});
  CHECK(read(step_0).rotary.theta == 5e5);
}

TEST_CASE("rotary fields that contradict each other are refused") {
  const auto refused = [](const json& fields) {
    json config = fixture_config("llama-tiny");
    config.erase("rope_theta");
    config.update(fields);
    try {
      read(config);
    } catch (const caravan::core::Error& error) {
      CHECK(error.code() == caravan::core::ExitCode::bad_input);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const auto check = [&](const json& fields, const char* message) {
    INFO(message);
    const std::string error = refused(fields);
    CAPTURE(error);
    CHECK(error.find(message) != std::string::npos);
  };
  const json linear{{"type", "linear"}, {"factor", 4.0}};
  const json parameters{{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 1e5}};
  check(
      {{"rope_scaling", {{"rope_type", "default"}}}, {"rope_theta", 1e5}, {"rope_parameters", parameters}},
      "rope_parameters = {\"factor\":4.0,\"rope_theta\":100000.0,\"rope_type\":\"linear\"} contradicts rope_scaling = "
      "{\"rope_type\":\"default\"}");
  check({{"rope_scaling", linear}, {"rope_parameters", parameters}},
        "rope_parameters.rope_theta = 100000.0 contradicts rope_theta = 10000, the default beside rope_scaling");
  check({{"rope_theta", 2e4}, {"rope_parameters", parameters}},
        "rope_theta = 20000.0 contradicts rope_parameters.rope_theta = 100000");
  json other = parameters;
  other["factor"] = 2.0;
  check({{"rope_scaling", linear}, {"rope_theta", 1e5}, {"rope_parameters", other}}, "contradicts rope_scaling");
  check({{"rope_scaling", linear}, {"rope_theta", 1e5}, {"rope_parameters", parameters}}, "no error");
  check({{"rope_scaling", json::object()}, {"rope_theta", 1e5}, {"rope_parameters", parameters}}, "no error");
}

TEST_CASE("scaled positions are known positions") {
  ModelSpec spec;
  spec.max_positions = 4096;
  CHECK(known_positions(spec) == 4096);
  spec.rotary.scaling = RotaryScaling{RotaryScaling::Kind::linear, 4.0};
  CHECK(known_positions(spec) == 16384);
  spec.rotary.scaling = RotaryScaling{RotaryScaling::Kind::dynamic, 2.5};
  CHECK(known_positions(spec) == 10240);
  spec.rotary.scaling = RotaryScaling{RotaryScaling::Kind::linear, 0.5};
  CHECK(known_positions(spec) == 4096);
  // Llama 3.1 gives the positions after scaling, and those before in the scaling.
  spec.rotary.scaling = RotaryScaling{RotaryScaling::Kind::llama3, 8.0, 1, 4, 8192};
  spec.max_positions = 131072;
  CHECK(known_positions(spec) == 131072);
  spec.max_positions = 8192;
  CHECK(known_positions(spec) == 65536);
  spec.rotary.scaling = RotaryScaling{RotaryScaling::Kind::linear, 1e300};
  CHECK(known_positions(spec) == 1000000000000000);
}
