// SPDX-License-Identifier: Apache-2.0
// Runs on 1, 2 and 4 ranks: what is written does not depend on how many ranks share the work.
#include "convert/export.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/export_folder.hpp"
#include "convert/transformers_classes.hpp"
#include "family/hugging_face_source.hpp"
#include "tests/convert/trained.hpp"

namespace fs = std::filesystem;
using namespace caravan;
using namespace caravan::tests;

namespace {

/// Exports into `run.folder / name` through all the ranks of `ranks`.
convert::ExportReport write(Trained& run, comm::Communicator& ranks, const std::string& name, core::DType dtype,
                            std::uint64_t shard_bytes = convert::default_shard_bytes) {
  convert::ExportFolder target(ranks, run.folder / name);
  const auto report =
      convert::write_model_folder(ranks, {*run.reader, run.spec, {run.store}, {dtype}, target.staging(), shard_bytes});
  target.commit();
  return report;
}

/// Each exported value against base + scale · B · A in double.
void expect_merged(Trained& run) {
  const auto report = write(run, *run.world, "out", core::DType::f32);
  CHECK(report.shards == 1);
  const fs::path out = run.folder / "out";
  const family::ModelSpec spec = family::read_model_spec(out.string());
  CHECK(spec == convert::exported_spec(run.spec, {core::DType::f32}));
  // Opening compares every name and shape with the family's table, which the golden test of camelidae holds.
  const family::HuggingFaceSource files(out.string(), spec);
  CHECK(io::SafetensorsFile(out / "model.safetensors").metadata().at("format") == "pt");
  std::int64_t elements = 0;
  for (const auto& parameter : family::parameter_specs(spec)) {
    CAPTURE(parameter.name);
    const std::vector<float> got = read_all(files, parameter.name);
    elements += static_cast<std::int64_t>(got.size());
    std::vector<float> expected = read_all(*run.reader, parameter.name);
    const std::string linear = parameter.name.substr(0, parameter.name.rfind('.'));
    double most = 0;
    if (run.reader->contains(linear + ".lora_A.weight")) {
      const auto a = read_all(*run.reader, linear + ".lora_A.weight"),
                 b = read_all(*run.reader, linear + ".lora_B.weight");
      const auto in = static_cast<std::size_t>(parameter.shape[1]),
                 rank = static_cast<std::size_t>(run.spec.lora->rank);
      for (std::size_t i = 0; i < got.size(); ++i) {
        double update = 0;
        for (std::size_t k = 0; k < rank; ++k) update += double{b[i / in * rank + k]} * a[k * in + i % in];
        update *= run.spec.lora->scale();
        most = std::max(most, std::abs(expected[i] + update - got[i]));
      }
      // Values below 0.5 and a sum of four products: fp32 rounds by at most some 6e-8.
      CHECK(most < 2e-7);
      CHECK(got != expected);
    } else {
      CHECK(got == expected);
    }
  }
  CHECK(report.elements == elements);
}

}  // namespace

TEST_CASE("the exported folder holds the model with LoRA merged, under the official names") {
  Trained run;
  expect_merged(run);
}

TEST_CASE("rank-stabilised LoRA is merged with its scale, under other families' names too") {
  Trained run("mistral-tiny", family::Lora{4, 10, {"v_proj"}, true});
  CHECK(run.spec.lora->scale() == 5);  // alpha / √rank
  expect_merged(run);
}

TEST_CASE("the folder holds the classes that load it, and the tokenizer") {
  Trained run;
  write(run, *run.world, "out", core::DType::bf16);
  const auto files = files_of(run.folder / "out");
  const auto config = nlohmann::json::parse(files.at("config.json"));
  CHECK(config.at("auto_map").at("AutoConfig") == "configuration_pesc.CamelidaeConfig");
  CHECK(config.at("torch_dtype") == "bfloat16");
  CHECK(config.at("num_experts") == run.spec.pesc->experts);
  CHECK_FALSE(config.contains("caravan"));
  for (const convert::ClassFile& file : convert::transformers_classes()) {
    CHECK(files.at(std::string(file.name)) == file.text);
  }
  const fs::path base = family::fixture("llama-tiny");
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) {
    CHECK(files.at(name) == io::read_file(base / name));
  }
}

TEST_CASE("the files are the same on any number of ranks, and shards match their index") {
  Trained run;
  // About a tenth of the model, so that every rank has several.
  const std::uint64_t shard_bytes = 50'000;
  const auto report = write(run, *run.world, "together", core::DType::bf16, shard_bytes);
  REQUIRE(report.shards > 4);
  if (run.world->rank() == 0) {
    const auto alone = comm::make_serial_communicator("world");
    write(run, *alone, "alone", core::DType::bf16, shard_bytes);
    const auto files = files_of(run.folder / "together");
    CHECK(files == files_of(run.folder / "alone"));
    std::int64_t shards = 0;
    for (const auto& [name, text] : files) shards += name.ends_with(".safetensors") ? 1 : 0;
    CHECK(shards == report.shards);
    CHECK(nlohmann::json::parse(files.at("model.safetensors.index.json")).at("metadata").at("total_size") ==
          report.bytes);
    // Each value is the fp32 export's, rounded once.
    write(run, *alone, "whole", core::DType::f32);
    const auto spec = convert::exported_spec(run.spec, {core::DType::f32});
    const family::HuggingFaceSource rounded((run.folder / "together").string(), spec);
    const family::HuggingFaceSource whole((run.folder / "whole").string(), spec);
    for (const auto& parameter : family::parameter_specs(spec)) {
      std::vector<float> expected = read_all(whole, parameter.name);
      for (float& value : expected) value = core::bf16_to_float(core::float_to_bf16(value));
      CAPTURE(parameter.name);
      CHECK(read_all(rounded, parameter.name) == expected);
    }
  }
}

TEST_CASE("a folder that is in use is refused, and nothing is left of a failed export") {
  Trained run;
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(run.folder)) found.push_back(entry.path().string());
    std::sort(found.begin(), found.end());
    return found;
  };
  if (run.world->rank() == 0) {
    fs::create_directories(run.folder / "full");
    std::ofstream(run.folder / "full" / "notes.txt") << "mine\n";
    std::ofstream(run.folder / "file") << "mine\n";
    fs::create_directories(run.folder / "empty");
  }
  run.world->barrier("test folders");
  const auto refused = [&](const std::string& name, core::DType dtype) {
    return error_of([&] { write(run, *run.world, name, dtype); });
  };
  CHECK(has(refused("full", core::DType::f32),
            (run.folder / "full").string() + " is not empty (it holds notes.txt); nothing is replaced"));
  CHECK(has(refused("file", core::DType::f32), (run.folder / "file").string() + " is a file"));

  const std::string name = "model.layers.1.mlp.down_proj.lora_B.weight";
  // 65504 is the largest fp16 number; A is at most 0.1 and the scale 2.5, so that a product surely exceeds it.
  run.save(6, name, 1e12F);
  const auto after = names();
  run.world->barrier("test listing");
  const std::string large = refused("deep/er/out", core::DType::f16);
  CHECK(has(large, "model.layers.1.mlp.down_proj.weight, row "));
  CHECK(has(large, "is too large for float16; export with --export.dtype=bfloat16"));
  run.world->barrier("test listing");
  CHECK(names() == after);
  run.world->barrier("test listing");

  // A model is not replaced by another one.
  run.reader.emplace(checkpoint::step_folder(run.folder, 5));
  CHECK(has(refused("model", core::DType::f32), "no error"));
  CHECK(has(refused("model", core::DType::bf16), (run.folder / "model").string() + " holds a model already (config"));

  // An empty folder is taken, and so is the place of a process that was killed.
  if (run.world->rank() == 0) {
    fs::create_directories(run.folder / "empty.unfinished");
    std::ofstream(run.folder / "empty.unfinished" / "model-00001-of-00009.safetensors") << "half\n";
  }
  run.world->barrier("test folders");
  write(run, *run.world, "empty/", core::DType::f32);
  CHECK(fs::exists(run.folder / "empty" / "config.json"));
  CHECK_FALSE(fs::exists(run.folder / "empty" / "model-00001-of-00009.safetensors"));
  CHECK_FALSE(fs::exists(run.folder / "empty.unfinished"));
  CHECK_FALSE(fs::exists(run.folder / "empty" / "lock"));
}
