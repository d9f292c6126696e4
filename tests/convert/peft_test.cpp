// SPDX-License-Identifier: Apache-2.0
// What of PEFT's folders is read, and what is refused by name.
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "family/peft_source.hpp"
#include "io/atomic_file.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"

namespace fs = std::filesystem;
using namespace caravan;
using nlohmann::json;

namespace {

/// A copy of PEFT's adapter whose files can be changed.
class Copy {
 public:
  Copy() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    config = json::parse(io::read_file(origin / "adapter_config.json"));
    const io::SafetensorsFile file(origin / "adapter_model.safetensors");
    for (const std::string& name : file.names()) {
      const layout::Shape shape = file.info(name).shape;
      std::vector<float> values(static_cast<std::size_t>(layout::element_count(shape)));
      std::memcpy(values.data(), file.data(name), values.size() * sizeof(float));
      tensors.push_back({name, shape, core::DType::f32, std::move(values)});
    }
  }
  ~Copy() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  struct Tensor {
    std::string name;
    layout::Shape shape;
    core::DType dtype;
    std::vector<float> values;
  };

  /// Writes the folder and opens it on the base. Also what stands in `mixture`, as pesc/config.json.
  family::PeftSource open() const {
    io::write_file_atomically(folder / "adapter_config.json", config.dump());
    std::vector<io::SafetensorsEntry> entries;
    for (const Tensor& tensor : tensors) {
      entries.push_back({tensor.name, tensor.shape, tensor.dtype, tensor.values.data()});
    }
    io::write_safetensors(folder / "adapter_model.safetensors", entries);
    if (!mixture.is_null()) {
      fs::create_directories(folder / "pesc");
      io::write_file_atomically(folder / "pesc" / "config.json", mixture.dump());
      io::write_safetensors(folder / "pesc" / "model.safetensors", {});
    }
    const family::PeftAdapter adapter = family::read_peft_adapter(folder.string());
    return {adapter, family::adapted(family::read_model_spec(family::fixture("llama-tiny")), adapter)};
  }

  std::string refusal() const {
    try {
      open();
    } catch (const core::Error& error) {
      CHECK(error.code() == core::ExitCode::bad_input);
      return error.what();
    }
    return "no error";
  }

  const fs::path origin = tests::more_fixtures() / "peft" / "lora";
  const fs::path folder = fs::temp_directory_path() / ("caravan_peft_" + std::to_string(getpid()));
  json config, mixture;
  std::vector<Tensor> tensors;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("what is not plain LoRA is refused with file, field and value") {
  const std::vector<std::pair<std::string, json>> refused{
      {"peft_type", "IA3"},
      {"use_dora", true},
      {"rank_pattern", {{"q_proj", 4}}},
      {"alpha_pattern", {{"q_proj", 4}}},
      {"layers_to_transform", {0}},
      {"layers_to_transform", 1},
      {"layer_replication", json::array({{0, 1}})},
      {"modules_to_save", {"lm_head"}},
      {"exclude_modules", "lm_head"},
      {"trainable_token_indices", {1}},
      {"fan_in_fan_out", true},
      {"lora_bias", true},
      {"bias", "lora_only"},
      {"init_lora_weights", "pissa"},
      {"task_type", "SEQ_CLS"},
      {"target_modules", ".*_proj"},
      {"target_modules", 7},
      {"target_modules", {7}},
      {"r", 0},
      {"r", 2.5},
      {"lora_alpha", -1},
      {"use_rslora", "yes"},
  };
  for (const auto& [key, value] : refused) {
    CAPTURE(key, value.dump());
    Copy copy;
    copy.config[key] = value;
    const std::string text = copy.refusal();
    CHECK(text.starts_with((copy.folder / "adapter_config.json").string() + ": " + key + " = " + value.dump()));
  }
  Copy copy;
  copy.config["use_dora"] = true;
  CHECK(has(copy.refusal(), "merge this adapter into its base with PEFT (merge_and_unload)"));
  copy.config["use_dora"] = false;
  copy.config["target_modules"] = {"q_proj", "lm_head"};
  CHECK(has(copy.refusal(), (copy.folder / "adapter_config.json").string() + ": target_modules: lm_head is no linear"));
  copy.config.erase("target_modules");
  CHECK(has(copy.refusal(), "target_modules = null"));
}

TEST_CASE("what changes nothing is read, and all-linear means the seven linears") {
  Copy copy;
  copy.config["modules_to_save"] = json::array();
  copy.config["megatron_core"] = "megatron.core";
  copy.config["init_lora_weights"] = "gaussian";
  copy.config["peft_version"] = "0.17.0";
  copy.config["task_type"] = nullptr;
  copy.config["target_modules"] = "all-linear";
  copy.config.erase("use_rslora");  // as versions before 0.7 wrote it
  copy.open();
  const auto adapter = family::read_peft_adapter(copy.folder.string());
  const json written = json::parse(io::read_file(copy.origin / "adapter_config.json"));
  CHECK(adapter.lora == family::Lora{written.at("r"), written.at("lora_alpha"), family::lora_linears()});
  CHECK_FALSE(adapter.pesc.has_value());
}

TEST_CASE("tensors are held against the configuration, and named when they do not fit") {
  const std::string begin = ": tensors do not fit the adapter's configuration and the base: ";
  const auto refusal_after = [&](const std::function<void(Copy&)>& change) {
    Copy copy;
    change(copy);
    const std::string text = copy.refusal(), expected = copy.folder.string() + begin;
    CHECK(text.starts_with(expected));
    return text.substr(std::min(text.size(), expected.size()));
  };
  const std::string first = Copy().tensors.front().name;
  CHECK(refusal_after([](Copy& copy) { copy.tensors.erase(copy.tensors.begin()); }) == first + " is missing");
  CHECK(refusal_after([](Copy& copy) { copy.tensors.front().name += "s"; }) ==
        first + " is missing; " + first + "s is not expected");
  CHECK(refusal_after([](Copy& copy) {
          std::swap(copy.tensors.front().shape[0], copy.tensors.front().shape[1]);
        }).starts_with(first + " has shape "));
  CHECK(refusal_after([](Copy& copy) { copy.tensors.front().dtype = core::DType::i32; }) ==
        first + " has elements of int32, which is no floating type");
  CHECK(refusal_after([](Copy& copy) { copy.config["r"] = copy.config["r"].get<int>() + 1; }).ends_with(" more"));
  std::string twice = first;
  twice.insert(twice.rfind('.'), ".default");
  CHECK(refusal_after([&](Copy& copy) {
          copy.tensors.push_back(copy.tensors.front());
          copy.tensors.back().name = twice;
        }) == first + " is there twice, also as " + twice);
  // A linear that the configuration leaves out.
  CHECK(has(refusal_after([](Copy& copy) { copy.config["target_modules"] = {"q_proj"}; }), "is not expected"));
}

TEST_CASE("older files with the adapter's name in tensors' names give the same tensors") {
  Copy plain, named;
  for (Copy::Tensor& tensor : named.tensors) tensor.name.insert(tensor.name.rfind('.'), ".default");
  const family::PeftSource a = plain.open();
  std::size_t compared = 0;
  for (const Copy::Tensor& tensor : plain.tensors) {
    const std::string ours = tensor.name.substr(family::peft_name("").size());
    CAPTURE(ours);
    std::vector<float> values(tensor.values.size());
    a.read(ours, layout::whole(tensor.shape), core::DType::f32, values.data());
    CHECK(values == tensor.values);
    ++compared;
  }
  const family::PeftSource b = named.open();
  for (const Copy::Tensor& tensor : plain.tensors) {
    // A box, to see that offsets are followed: all but the first row and column.
    const std::string ours = tensor.name.substr(family::peft_name("").size());
    const layout::Rectangle box{{1, 1}, {tensor.shape[0] - 1, tensor.shape[1] - 1}};
    std::vector<float> values(static_cast<std::size_t>(box.count())), expected(values.size());
    b.read(ours, box, core::DType::f32, values.data());
    layout::copy_part(box, layout::whole(tensor.shape), tensor.values.data(), box, expected.data(), sizeof(float));
    CAPTURE(ours);
    CHECK(values == expected);
  }
  CHECK(compared == plain.tensors.size());
}

TEST_CASE("values that are not finite are refused where they are read") {
  Copy copy;
  copy.tensors.back().values.back() = std::numeric_limits<float>::infinity();
  const family::PeftSource source = copy.open();
  const Copy::Tensor& tensor = copy.tensors.back();
  const std::string ours = tensor.name.substr(family::peft_name("").size());
  std::vector<float> values(tensor.values.size());
  const layout::Shape& shape = tensor.shape;
  source.read(ours, {{0, 0}, {shape[0] - 1, shape[1]}}, core::DType::f32, values.data());
  CHECK_THROWS_AS(source.read(ours, layout::whole(shape), core::DType::f32, values.data()), core::Error);
}

TEST_CASE("a mixture beside the adapter is checked against the base's family and its files") {
  Copy copy;
  copy.mixture = {
      {"model_type", "sparsetral"}, {"num_experts", 2}, {"topk", 1}, {"adapter_dim", 4}, {"moe_scaling", 1}};
  const std::string file = (copy.folder / "pesc" / "config.json").string();
  CHECK(copy.refusal().starts_with(file + ": model_type = \"sparsetral\" does not stand on a base of model_type"));
  copy.mixture["model_type"] = "camelidae";
  CHECK(has(copy.refusal(), "model.layers.0.mlp.moe_adapter.router.weight is missing"));
  copy.mixture["topk"] = 3;
  CHECK(copy.refusal() == file + ": topk = 3 exceeds num_experts = 2");
  copy.mixture["model_type"] = "gpt2";
  CHECK(copy.refusal().starts_with(file + ": model_type = \"gpt2\" is not supported"));
}

TEST_CASE("a folder without an adapter, or with one that only Python reads, is refused") {
  const auto refusal = [](const fs::path& folder) {
    try {
      family::read_peft_adapter(folder.string());
    } catch (const core::Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(refusal("/nonexistent/folder") == "/nonexistent/folder is not a folder with a PEFT adapter");
  Copy copy;
  CHECK(has(refusal(copy.folder), "adapter_config.json: cannot be read"));
  copy.open();
  fs::rename(copy.folder / "adapter_model.safetensors", copy.folder / "adapter_model.bin");
  const family::PeftAdapter adapter = family::read_peft_adapter(copy.folder.string());
  const family::ModelSpec spec = family::adapted(family::read_model_spec(family::fixture("llama-tiny")), adapter);
  CHECK_THROWS_AS(family::PeftSource(adapter, spec), core::Error);
}
