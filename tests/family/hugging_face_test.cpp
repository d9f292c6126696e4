// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "core/error.hpp"
#include "family/hugging_face_source.hpp"
#include "family/parameters.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using namespace caravan;
using namespace caravan::family;

namespace {

std::string error_of(const std::string& folder, const ModelSpec& spec) {
  try {
    const HuggingFaceSource source(folder, spec);
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    return error.what();
  }
  return "no error";
}

std::vector<float> values(const layout::TensorSource& source, const std::string& name, const layout::Rectangle& part) {
  std::vector<float> out(static_cast<std::size_t>(part.count()));
  source.read(name, part, core::DType::f32, out.data());
  return out;
}

}  // namespace

TEST_CASE("the name table covers every tensor of a Camelidae file once") {
  const ModelSpec spec = read_model_spec(fixture("camelidae-tiny"));
  std::multiset<std::string> named;
  for (const auto& parameter : parameter_specs(spec)) {
    std::int64_t elements = 0;
    for (const ForeignPart& part : hugging_face_parts(spec, parameter)) {
      named.insert(part.name);
      elements += layout::element_count(part.shape);
      CHECK(part.place.count() == layout::element_count(part.shape));
    }
    CHECK(elements == layout::element_count(parameter.shape));
  }
  const auto in_file = io::SafetensorsDirectory(fixture("camelidae-tiny")).names();
  CHECK(std::vector<std::string>(named.begin(), named.end()) == in_file);
}

TEST_CASE("LoRA factors have no foreign name") {
  const ModelSpec spec =
      crafted(read_model_spec(fixture("llama-tiny")), {4, 2, 16, 0.25}, Lora{4, 16, {"q_proj", "down_proj"}});
  int factors = 0;
  for (const auto& parameter : parameter_specs(spec)) {
    const bool is_factor = parameter.name.find("lora_") != std::string::npos;
    factors += is_factor ? 1 : 0;
    CHECK(hugging_face_parts(spec, parameter).empty() == is_factor);
  }
  CHECK(factors == 4 * spec.layers);
}

TEST_CASE("boxes of any tensor are read as the files hold them") {
  const ModelSpec spec = read_model_spec(fixture("camelidae-tiny"));
  const HuggingFaceSource source(fixture("camelidae-tiny"), spec);
  const io::SafetensorsDirectory files(fixture("camelidae-tiny"));
  CHECK(source.where() == fixture("camelidae-tiny"));
  CHECK_FALSE(source.contains("model.layers.0.mlp.moe_adapter.experts.expert_0.adapter_up.weight"));
  for (const auto& parameter : parameter_specs(spec)) {
    INFO(parameter.name);
    REQUIRE(source.contains(parameter.name));
    CHECK(source.info(parameter.name).shape == parameter.shape);
    const auto all = values(source, parameter.name, layout::whole(parameter.shape));
    std::vector<float> expected(all.size());
    for (const ForeignPart& part : hugging_face_parts(spec, parameter)) {
      const auto piece = values(files, part.name, layout::whole(part.shape));
      layout::copy_part(part.place, part.place, piece.data(), layout::whole(parameter.shape), expected.data(),
                        sizeof(float));
    }
    CHECK(all == expected);
    layout::Rectangle inner = layout::whole(parameter.shape);  // without the first index and the last of each dimension
    for (std::size_t d = 0; d < inner.extent.size(); ++d) {
      inner.offset[d] = 1;
      inner.extent[d] -= 2;
    }
    std::vector<float> cut(static_cast<std::size_t>(inner.count()));
    layout::copy_part(inner, layout::whole(parameter.shape), expected.data(), inner, cut.data(), sizeof(float));
    CHECK(values(source, parameter.name, inner) == cut);
  }
}

TEST_CASE("a folder whose tensors contradict its configuration is refused by name") {
  const std::string folder = fixture("camelidae-tiny"), begin = folder + ": tensors do not fit its config.json: ";
  const ModelSpec spec = read_model_spec(folder);
  ModelSpec deeper = spec;
  ++deeper.layers;
  const std::string missing = layer_prefix(spec.layers) + "input_layernorm.weight is missing; ";
  CHECK(error_of(folder, deeper).starts_with(begin + missing));
  ModelSpec wider = spec;
  wider.vocabulary += 8;
  const auto shapes = [&](const ModelSpec& of) { return layout::to_string({of.vocabulary, of.hidden}); };
  CHECK(error_of(folder, wider) == begin + "model.embed_tokens.weight has shape " + shapes(spec) +
                                       ", config.json makes it " + shapes(wider) + "; lm_head.weight has shape " +
                                       shapes(spec) + ", config.json makes it " + shapes(wider));
  ModelSpec fewer = spec;
  --fewer.pesc->experts;
  const std::string last = "mlp.moe_adapter.experts.expert_" + std::to_string(fewer.pesc->experts) + ".adapter_";
  const std::string text = error_of(folder, fewer);
  CHECK(text.find(layer_prefix(0) + last + "down.weight is not expected") != std::string::npos);
  CHECK(text.find(layer_prefix(0) + "mlp.moe_adapter.router.weight has shape ") != std::string::npos);
}

TEST_CASE("rotary frequencies in a file are left aside, integer weights are not taken") {
  const fs::path folder = fs::temp_directory_path() / ("caravan_hugging_face_" + std::to_string(getpid()));
  fs::create_directories(folder);
  ModelSpec spec;
  spec.hidden = spec.ffn = spec.vocabulary = spec.head_dim = 2;
  spec.heads = spec.kv_heads = 1;
  const std::vector<float> zeros(64);
  std::vector<io::SafetensorsEntry> entries{
      {"model.embed_tokens.weight", {2, 2}, core::DType::f32, zeros.data()},
      {"model.norm.weight", {2}, core::DType::f32, zeros.data()},
      {"lm_head.weight", {2, 2}, core::DType::f32, zeros.data()},
      {"model.layers.0.self_attn.rotary_emb.inv_freq", {1}, core::DType::f32, zeros.data()}};
  io::write_safetensors(folder / "model.safetensors", entries);
  CHECK(error_of(folder.string(), spec) == "no error");
  entries[2].dtype = core::DType::i32;
  io::write_safetensors(folder / "model.safetensors", entries);
  CHECK(error_of(folder.string(), spec) ==
        folder.string() +
            ": tensors do not fit its config.json: lm_head.weight has elements of int32, which is no floating type");
  fs::remove_all(folder);
}

TEST_CASE("a head in the files of a model with tied embeddings must equal the embedding") {
  const fs::path folder = fs::temp_directory_path() / ("caravan_tied_head_" + std::to_string(getpid()));
  fs::create_directories(folder);
  ModelSpec spec;
  spec.hidden = spec.ffn = spec.head_dim = 2;
  spec.vocabulary = 3;
  spec.heads = spec.kv_heads = 1;
  spec.tied_embeddings = true;
  const std::vector<float> zeros(2), values{1, 2, 3, 4, 5, 6}, other{1, 2, 3, 4, 5, 7};
  const std::vector<std::uint16_t> rounded{0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0};  // the values as bf16
  const auto with_head = [&](core::DType dtype, const layout::Shape& shape, const void* head) {
    io::write_safetensors(folder / "model.safetensors",
                          {{"model.embed_tokens.weight", {3, 2}, core::DType::f32, values.data()},
                           {"model.norm.weight", {2}, core::DType::f32, zeros.data()},
                           {"lm_head.weight", shape, dtype, head}});
    return error_of(folder.string(), spec);
  };
  const std::string begin = folder.string() + ": tensors do not fit its config.json: lm_head.weight ";
  CHECK(with_head(core::DType::f32, {3, 2}, values.data()) == "no error");
  CHECK(with_head(core::DType::bf16, {3, 2}, rounded.data()) == "no error");
  CHECK(with_head(core::DType::f32, {3, 2}, other.data()) ==
        begin +
            "differs from model.embed_tokens.weight in rows 0 to 2, but tie_word_embeddings says that they are one; "
            "set it to false in config.json if the head has values of its own, or remove the tensor");
  CHECK(with_head(core::DType::f32, {2, 2}, values.data()) == begin + "has shape [2, 2], config.json makes it [3, 2]");
  CHECK(with_head(core::DType::i32, {3, 2}, values.data()) ==
        begin + "has elements of int32, which is no floating type");
  fs::remove_all(folder);
}
