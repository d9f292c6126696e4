// SPDX-License-Identifier: Apache-2.0
// Runs on 1, 2 and 4 ranks: what is written does not depend on how many ranks share the work.
#include "convert/export.hpp"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoint/reader.hpp"
#include "checkpoint/retention.hpp"
#include "checkpoint/save.hpp"
#include "comm/mpi_runtime.hpp"
#include "convert/export_folder.hpp"
#include "convert/upcycle.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "family/hugging_face_source.hpp"
#include "family/parameters.hpp"
#include "io/atomic_file.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using namespace caravan;

namespace {

using Values = std::map<std::string, std::vector<float>>;

/// A value that looks trained, from name and index alone.
float trained_value(const std::string& name, std::size_t index) {
  return 0.2F * (core::uniform(core::hash_name(name.data(), name.size()), index) - 0.5F);
}

/// A run of all ranks: the tiny Llama upcycled, and a checkpoint of step 5 beside it whose trainables are all non-zero.
class Trained {
 public:
  Trained() : world(comm::make_world(30)) {
    const std::string mine = (fs::temp_directory_path() / ("caravan_export_" + std::to_string(getpid()))).string();
    folder = world->broadcast_text("test folder", mine, 0);
    if (world->rank() == 0) fs::create_directories(folder);
    world->barrier("test begin");
    const std::string base = family::fixture("llama-tiny");
    const family::Lora lora{4, 10, {"q_proj", "o_proj", "up_proj", "down_proj"}};
    spec = family::crafted(family::read_model_spec(base), {3, 2, 24, 0.25}, lora);
    store = checkpoint::step_folder(folder, 0);
    convert::upcycle(*world, {base, spec, store, 7, "test"});
    save();
  }
  ~Trained() {
    try {
      world->barrier("test end");
    } catch (const core::Error&) {  // another rank's check has failed; that one ends the world
    }
    std::error_code ignored;
    if (world->rank() == 0) fs::remove_all(folder, ignored);
  }

  /// A checkpoint in which one value, if named, is another.
  void save(std::int64_t step = 5, const std::string& changed = "", float value = 0) {
    checkpoint::SaveRequest request;
    request.step = step;
    request.folder = checkpoint::step_folder(folder, step);
    request.store = checkpoint::store_reference(store, request.folder);
    Values values;
    std::vector<checkpoint::Piece> pieces;
    for (const auto& parameter : family::parameter_specs(spec)) {
      if (!parameter.trainable) continue;
      std::vector<float>& data = values[parameter.name];
      data.resize(static_cast<std::size_t>(layout::element_count(parameter.shape)));
      for (std::size_t i = 0; i < data.size(); ++i) data[i] = trained_value(parameter.name, i);
      if (parameter.name == changed) data[data.size() / 2] = value;
      if (world->rank() != 0) continue;
      pieces.push_back(checkpoint::make_piece(parameter.name, parameter.shape, core::DType::f32,
                                              layout::whole(parameter.shape), data.data()));
    }
    checkpoint::save(*world, request, pieces);
    reader.emplace(request.folder);
  }

  /// Exports into `folder / name` through all the ranks of `ranks`.
  convert::ExportReport write(comm::Communicator& ranks, const std::string& name, core::DType dtype,
                              std::uint64_t shard_bytes = convert::default_shard_bytes) {
    convert::ExportFolder target(ranks, folder / name);
    const auto report =
        convert::write_model_folder(ranks, {*reader, spec, store, dtype, target.staging(), shard_bytes});
    target.commit();
    return report;
  }

  std::unique_ptr<comm::Communicator> world;
  fs::path folder, store;
  family::ModelSpec spec;
  std::optional<checkpoint::CheckpointReader> reader;
};

std::vector<float> read_all(const layout::TensorSource& source, const std::string& name) {
  const auto shape = source.info(name).shape;
  std::vector<float> values(static_cast<std::size_t>(layout::element_count(shape)));
  source.read(name, layout::whole(shape), core::DType::f32, values.data());
  return values;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = io::read_file(entry.path());
  }
  return files;
}

template <typename Work>
std::string error_of(Work&& work) {
  try {
    work();
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    return error.what();
  }
  return "no error";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the exported folder holds the checkpoint's model with LoRA merged, under the official names") {
  Trained run;
  const auto report = run.write(*run.world, "out", core::DType::f32);
  CHECK(report.shards == 1);
  const fs::path out = run.folder / "out";
  const family::ModelSpec spec = family::read_model_spec(out.string());
  CHECK(spec == convert::exported_spec(run.spec, core::DType::f32));
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

TEST_CASE("config.json is what the official class reads, and the tokenizer comes along") {
  Trained run;
  run.write(*run.world, "out", core::DType::bf16);
  const auto files = files_of(run.folder / "out");
  const auto config = nlohmann::json::parse(files.at("config.json"));
  CHECK(config.at("auto_map").at("AutoConfig") == "configuration_camelidae.CamelidaeConfig");
  CHECK(config.at("auto_map").at("AutoModelForCausalLM") == "modeling_camelidae.LlamaForCausalLM");
  CHECK(config.at("torch_dtype") == "bfloat16");
  CHECK(config.at("num_experts") == run.spec.pesc->experts);
  CHECK_FALSE(config.contains("caravan"));
  const fs::path base = family::fixture("llama-tiny");
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) {
    CHECK(files.at(name) == io::read_file(base / name));
  }
}

TEST_CASE("the files are the same for any number of ranks, and shards say what their index says") {
  Trained run;
  // About a tenth of the model, so that every rank has several.
  const std::uint64_t shard_bytes = 50'000;
  const auto report = run.write(*run.world, "together", core::DType::bf16, shard_bytes);
  REQUIRE(report.shards > 4);
  if (run.world->rank() == 0) {
    const auto alone = comm::make_serial_communicator("world");
    run.write(*alone, "alone", core::DType::bf16, shard_bytes);
    const auto files = files_of(run.folder / "together");
    CHECK(files == files_of(run.folder / "alone"));
    std::int64_t shards = 0;
    for (const auto& [name, text] : files) shards += name.ends_with(".safetensors") ? 1 : 0;
    CHECK(shards == report.shards);
    CHECK(nlohmann::json::parse(files.at("model.safetensors.index.json")).at("metadata").at("total_size") ==
          report.bytes);
    // Each value is the fp32 export's, rounded once.
    run.write(*alone, "whole", core::DType::f32);
    const auto spec = convert::exported_spec(run.spec, core::DType::f32);
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
  const auto write = [&](const std::string& name, core::DType dtype) {
    return error_of([&] { run.write(*run.world, name, dtype); });
  };
  const auto before = names();
  run.world->barrier("test listing");
  CHECK(has(write("full", core::DType::f32), (run.folder / "full").string() + " is not empty"));
  CHECK(has(write("file", core::DType::f32), (run.folder / "file").string() + " is a file"));

  const std::string name = "model.layers.1.mlp.down_proj.lora_B.weight";
  // 65504 is the largest fp16 number; A is at most 0.1 and the scale 2.5, so that a product surely exceeds it.
  run.save(6, name, 1e12F);
  const auto after = names();
  run.world->barrier("test listing");
  const std::string large = write("deep/er/out", core::DType::f16);
  CHECK(has(large, "model.layers.1.mlp.down_proj.weight, row "));
  CHECK(has(large, "is too large for float16; export with --export.dtype=bfloat16"));
  run.world->barrier("test listing");
  CHECK(names() == after);
  run.world->barrier("test listing");
  run.save(7, name, std::numeric_limits<float>::quiet_NaN());
  CHECK(has(write("out", core::DType::bf16), "model.layers.1.mlp.down_proj.weight, row "));
  run.world->barrier("test listing");
  CHECK(names().size() == after.size() + (after.size() - before.size()));
  run.world->barrier("test listing");

  // An empty folder is taken, and so is the place of a process that was killed.
  run.reader.emplace(checkpoint::step_folder(run.folder, 5));
  if (run.world->rank() == 0) {
    fs::create_directories(run.folder / "empty.unfinished");
    std::ofstream(run.folder / "empty.unfinished" / "model-00001-of-00009.safetensors") << "half\n";
  }
  run.world->barrier("test folders");
  run.write(*run.world, "empty/", core::DType::f32);
  CHECK(fs::exists(run.folder / "empty" / "config.json"));
  CHECK_FALSE(fs::exists(run.folder / "empty" / "model-00001-of-00009.safetensors"));
  CHECK_FALSE(fs::exists(run.folder / "empty.unfinished"));
  CHECK_FALSE(fs::exists(run.folder / "empty" / "lock"));
}
