// SPDX-License-Identifier: Apache-2.0
// Runs on 1 and 2 ranks: adapters go out and in without a loss, and do not depend on how many ranks share the work.
#include "convert/export_adapter.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/export_folder.hpp"
#include "family/hugging_face_source.hpp"
#include "family/initial_values.hpp"
#include "family/peft_source.hpp"
#include "tests/convert/trained.hpp"
#include "tests/support/fixtures.hpp"

namespace fs = std::filesystem;
using namespace caravan;
using namespace caravan::tests;

namespace {

fs::path write(Trained& run, comm::Communicator& ranks, const std::string& name,
               std::uint64_t shard_bytes = convert::default_shard_bytes) {
  convert::ExportFolder target(ranks, run.folder / name);
  convert::write_adapter_folder(
      ranks, {*run.reader, run.spec, run.base, 0.1, 0.2, core::DType::f32, target.staging(), shard_bytes});
  target.commit();
  return run.folder / name;
}

/// Step 0 from a base and an adapter, as the command upcycle makes it.
convert::UpcycleRequest request_with(const std::string& base, const fs::path& adapter, const fs::path& folder) {
  const family::PeftAdapter read = family::read_peft_adapter(adapter.string());
  const family::ModelSpec spec = family::adapted(family::read_model_spec(base), read);
  return {base, family::crafted(spec, {4, 2, 16, 0.25}, read.lora), folder, 7, "test", adapter.string()};
}

}  // namespace

TEST_CASE("an adapter folder is the trainables again when upcycle takes it") {
  const family::Lora plain{4, 10, {"q_proj", "o_proj", "up_proj", "down_proj"}};
  const family::Lora stabilised{3, 2.5, {"v_proj"}, true};
  const std::vector<std::pair<std::string, std::optional<family::Lora>>> models{{"llama-tiny", plain},
                                                                                {"mistral-tiny", stabilised},
                                                                                {"qwen2-tied-tiny", std::nullopt},
                                                                                {"camelidae-tiny", plain}};
  for (const auto& [base, lora] : models) {
    CAPTURE(base);
    Trained run(base, lora);
    const fs::path adapter = write(run, *run.world, "adapter");
    CHECK(fs::exists(adapter / "adapter_config.json") == lora.has_value());
    CHECK(family::read_peft_adapter(adapter.string()).lora == lora);
    CHECK(nlohmann::json::parse(io::read_file(adapter / "pesc" / "config.json")).at("adapter_dropout") == 0.2);
    auto request = request_with(run.base, adapter, run.folder / "again");
    CHECK(request.spec == run.spec);
    convert::upcycle(*run.world, request);
    const checkpoint::CheckpointReader again(request.folder);
    for (const auto& parameter : family::parameter_specs(run.spec)) {
      INFO(parameter.name);
      CHECK(read_all(again, parameter.name) == read_all(*run.reader, parameter.name));
    }
  }
}

TEST_CASE("an adapter of PEFT goes through a checkpoint and out as the file that it was") {
  const Shared shared;
  for (const fs::path& adapter : folders_in(more_fixtures() / "peft")) {
    CAPTURE(adapter.filename().string());
    const nlohmann::json config = nlohmann::json::parse(io::read_file(adapter / "adapter_config.json"));
    const std::string name = config.at("base_model_name_or_path");
    const auto request = request_with(family::fixture(name), adapter, shared.folder / adapter.filename() / "step");
    convert::upcycle(*shared.world, request);
    const checkpoint::CheckpointReader reader(request.folder);
    const fs::path out = shared.folder / adapter.filename() / "out";
    convert::write_adapter_folder(*shared.world,
                                  {reader, request.spec, name, config.at("lora_dropout"), 0, core::DType::f32, out});
    CHECK(nlohmann::json::parse(io::read_file(out / "adapter_config.json")) == config);
    const io::SafetensorsFile before(adapter / "adapter_model.safetensors"), after(out / "adapter_model.safetensors");
    CHECK(after.metadata() == before.metadata());
    REQUIRE(after.names() == before.names());
    for (const std::string& tensor : before.names()) {
      CAPTURE(tensor);
      REQUIRE(after.info(tensor).shape == before.info(tensor).shape);
      REQUIRE(after.info(tensor).dtype == before.info(tensor).dtype);
      const auto bytes = static_cast<std::size_t>(layout::element_count(before.info(tensor).shape)) * sizeof(float);
      CHECK(std::memcmp(after.data(tensor), before.data(tensor), bytes) == 0);
    }
    // The folder had no mixture: this one begins as every other.
    for (const auto& parameter : family::parameter_specs(request.spec)) {
      if (!has(parameter.name, ".moe_adapter.")) continue;
      std::vector<float> initial(static_cast<std::size_t>(layout::element_count(parameter.shape)));
      family::fill_initial(parameter, request.seed, layout::whole(parameter.shape), initial.data());
      CHECK(read_all(reader, parameter.name) == initial);
    }
  }
}

TEST_CASE("the adapter's files are the same on any ranks, and a large mixture is in shards") {
  Trained run;
  const fs::path together = write(run, *run.world, "together", 20'000);
  if (run.world->rank() != 0) return;
  const auto alone = comm::make_serial_communicator("world");
  const auto files = files_of(together);
  CHECK(files == files_of(write(run, *alone, "alone", 20'000)));
  CHECK(files.contains("pesc/model.safetensors.index.json"));
  CHECK_FALSE(files.contains("pesc/model.safetensors"));
  const family::PeftAdapter adapter = family::read_peft_adapter(together.string());
  const family::PeftSource source(adapter, run.spec);
  for (const auto& parameter : family::parameter_specs(run.spec)) {
    CAPTURE(parameter.name);
    REQUIRE(source.contains(parameter.name) == parameter.trainable);
    if (!parameter.trainable) continue;
    CHECK(read_all(source, parameter.name) == read_all(*run.reader, parameter.name));
    CHECK(source.info(parameter.name).shape == parameter.shape);
  }
}

TEST_CASE("an adapter folder has the tokenizer and chat template of its training") {
  const Shared shared;
  const std::string base = family::fixture("llama-tiny");
  const family::ModelSpec spec = family::crafted(family::read_model_spec(base), {3, 2, 24, 0.25}, std::nullopt);
  const fs::path store = shared.folder / "step";
  convert::upcycle(*shared.world, {base, spec, store, 7, "test"});
  const checkpoint::CheckpointReader reader(store);
  convert::AdapterRequest request{reader, spec, base, 0, 0, core::DType::f32, shared.folder / "adapter"};
  request.tokenizer = base;
  request.chat_template = "{{ ours }}";
  convert::write_adapter_folder(*shared.world, request);
  CHECK(io::read_file(request.folder / "tokenizer.model") == io::read_file(fs::path(base) / "tokenizer.model"));
  const auto config = nlohmann::json::parse(io::read_file(request.folder / "tokenizer_config.json"));
  CHECK(config.at("chat_template") == "{{ ours }}");
  CHECK(config.contains("tokenizer_class"));
}

TEST_CASE("a model with nothing to export as an adapter is refused") {
  const Shared shared;
  const std::string base = family::fixture("llama-tiny");
  const family::ModelSpec spec = family::read_model_spec(base);
  const family::HuggingFaceSource files(base, spec);
  const std::string message = error_of([&] {
    convert::write_adapter_folder(*shared.world, {files, spec, base, 0, 0, core::DType::f32, shared.folder / "out"});
  });
  CHECK(has(message, "export.merge = false"));
  CHECK_FALSE(fs::exists(shared.folder / "out"));
}

TEST_CASE("a step 0 from another adapter is refused, as is an adapter that is not finite") {
  Trained run;
  const std::string name = "model.layers.1.mlp.down_proj.lora_B.weight";
  const fs::path adapter = write(run, *run.world, "adapter");
  const auto request = request_with(run.base, adapter, run.folder / "again");
  convert::upcycle(*run.world, request);
  CHECK(convert::upcycle(*run.world, request).already_there);
  run.world->barrier("test adapter");
  if (run.world->rank() == 0) {
    // The last value of B, and of the file's rows that tell two bases apart.
    const io::SafetensorsFile file(adapter / "adapter_model.safetensors");
    std::vector<io::SafetensorsEntry> entries;
    const auto shape = file.info(family::peft_name(name)).shape;
    std::vector<float> changed(static_cast<std::size_t>(layout::element_count(shape)));
    std::memcpy(changed.data(), file.data(family::peft_name(name)), changed.size() * sizeof(float));
    for (const float value : {2.0F, NAN}) {
      changed.back() = value;
      entries.clear();
      for (const std::string& tensor : file.names()) {
        const bool here = tensor == family::peft_name(name);
        entries.push_back({tensor, file.info(tensor).shape, core::DType::f32,
                           here ? static_cast<const void*>(changed.data()) : file.data(tensor)});
      }
      const fs::path folder = run.folder / (std::isnan(value) ? "nan" : "other");
      fs::copy(adapter, folder, fs::copy_options::recursive);
      io::write_safetensors(folder / "adapter_model.safetensors", entries);
    }
  }
  run.world->barrier("test adapters");
  auto other = request;
  other.adapter = (run.folder / "other").string();
  const std::string differs = error_of([&] { convert::upcycle(*run.world, other); });
  CAPTURE(differs);
  CHECK(has(differs, "; it differs in /base; "));
  other.adapter = (run.folder / "nan").string();
  other.folder = run.folder / "new";
  const std::string message = error_of([&] { convert::upcycle(*run.world, other); });
  CHECK(has(message, (run.folder / "nan" / "adapter_model.safetensors").string() + ": " + family::peft_name(name)));
  CHECK(has(message, "holds NaN or infinity"));
  CHECK_FALSE(fs::exists(other.folder / "manifest.json"));
}
