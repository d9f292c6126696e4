// SPDX-License-Identifier: Apache-2.0
// Runs on 1, 2 and 3 ranks: what is written does not depend on how many ranks share the work.
#include "convert/upcycle.hpp"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/reader.hpp"
#include "comm/mpi_runtime.hpp"
#include "convert/base_tensors.hpp"
#include "core/error.hpp"
#include "family/hugging_face_source.hpp"
#include "family/initial_values.hpp"
#include "family/parameters.hpp"
#include "io/atomic_file.hpp"
#include "io/safetensors.hpp"
#include "run/step_0_origin.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using namespace caravan;

namespace {

using Shared = test::SharedFolder;

convert::UpcycleRequest request_for(const std::string& base, const fs::path& folder) {
  const family::Pesc pesc{4, 2, 24, 0.25};
  const family::Lora lora{4, 8, {"q_proj", "o_proj", "down_proj"}};
  return {base, family::crafted(family::read_model_spec(base), pesc, lora), folder / "step-00000000", 7, "test"};
}

std::string error_of(comm::Communicator& world, const convert::UpcycleRequest& request) {
  try {
    convert::upcycle(world, request);
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    return error.what();
  }
  return "no error";
}

std::vector<char> bytes_of(const layout::TensorSource& source, const std::string& name, core::DType dtype) {
  const auto shape = source.info(name).shape;
  std::vector<char> bytes(static_cast<std::size_t>(layout::element_count(shape)) * core::size_of(dtype));
  source.read(name, layout::whole(shape), dtype, bytes.data());
  return bytes;
}

// A copy of the tiny Llama whose tensor `name` is changed by `change` (its values as fp32).
template <typename Change>
std::string changed_base(Shared& shared, const std::string& name, Change&& change) {
  const fs::path folder = shared.folder / "changed";
  if (shared.world->rank() == 0) {
    fs::create_directories(folder);
    fs::copy_file(family::fixture("llama-tiny") + "/config.json", folder / "config.json",
                  fs::copy_options::overwrite_existing);
    const io::SafetensorsDirectory files(family::fixture("llama-tiny"));
    std::vector<std::vector<char>> bytes;
    std::vector<io::SafetensorsEntry> entries;
    for (const std::string& tensor : files.names()) {
      bytes.push_back(bytes_of(files, tensor, core::DType::f32));
      if (tensor == name) change(reinterpret_cast<float*>(bytes.back().data()));
      entries.push_back({tensor, files.info(tensor).shape, core::DType::f32, bytes.back().data()});
    }
    io::write_safetensors(folder / "model.safetensors", entries);
  }
  shared.world->barrier("test base");
  return folder.string();
}

}  // namespace

TEST_CASE("the upcycled model holds the base's bytes and initial values that know no rank") {
  Shared shared;
  const std::string base = family::fixture("llama-tiny");
  const auto request = request_for(base, shared.folder);
  const auto report = convert::upcycle(*shared.world, request);
  CHECK_FALSE(report.already_there);
  const auto parameters = family::parameter_specs(request.spec);
  CHECK(report.frozen + report.trainable == family::count_elements(parameters, false));

  const checkpoint::CheckpointReader reader(request.folder);
  const io::SafetensorsDirectory files(base);
  CHECK(reader.step() == 0);
  CHECK(reader.tensor_names().size() == parameters.size());
  for (const auto& parameter : parameters) {
    INFO(parameter.name);
    REQUIRE(reader.contains(parameter.name));
    CHECK(reader.info(parameter.name).shape == parameter.shape);
    CHECK(reader.info(parameter.name).dtype == parameter.storage);
    std::vector<char> expected;
    if (parameter.trainable) {
      std::vector<float> values(static_cast<std::size_t>(layout::element_count(parameter.shape)));
      family::fill_initial(parameter, request.seed, layout::whole(parameter.shape), values.data());
      expected.resize(values.size() * sizeof(float));
      std::memcpy(expected.data(), values.data(), expected.size());
    } else {
      expected = bytes_of(files, parameter.name, parameter.storage);
    }
    CHECK(bytes_of(reader, parameter.name, parameter.storage) == expected);
  }
  CHECK(reader.verify().empty());
}

TEST_CASE("a step 0 names its base, and the same base elsewhere gives the same step 0") {
  Shared shared;
  const auto request = request_for(family::fixture("llama-tiny"), shared.folder);
  convert::upcycle(*shared.world, request);
  const checkpoint::Manifest manifest = checkpoint::Manifest::read(request.folder);
  CHECK(run::Step0Origin::of(manifest).base == request.base);
  CHECK(run::Step0Origin::of(manifest).adapter.empty());
  const std::string copy = (shared.folder / "copy").string();
  shared.world->barrier("test read");
  if (shared.world->rank() == 0) fs::copy(request.base, copy, fs::copy_options::recursive);
  shared.world->barrier("test copy");
  const auto again = request_for(copy, shared.folder);
  CHECK(convert::upcycle(*shared.world, again).already_there);
  const std::string recorded = manifest.state.at("upcycle").at("base");
  CHECK(convert::fingerprint_of_folders(copy, "", request.spec) == recorded);
  const std::string changed = changed_base(shared, "model.norm.weight", [](float* values) { values[0] += 1; });
  CHECK(convert::fingerprint_of_folders(changed, "", request.spec) != recorded);
}

TEST_CASE("another version on another number of ranks writes the same store") {
  Shared shared;
  auto request = request_for(family::fixture("llama-tiny"), shared.folder);
  convert::upcycle(*shared.world, request);
  const checkpoint::StoreReference reference = checkpoint::identify_store(request.folder);
  shared.world->barrier("test read");
  if (shared.world->rank() != 0) return;
  fs::remove_all(request.folder);
  request.program = "another version";
  convert::upcycle(*comm::make_serial_communicator("alone"), request);
  const checkpoint::StoreReference again = checkpoint::identify_store(request.folder);
  CHECK(again.manifest_hash != reference.manifest_hash);
  CHECK(checkpoint::is_same_store(reference, again));
  fs::remove_all(request.folder);
  ++request.seed;
  convert::upcycle(*comm::make_serial_communicator("alone"), request);
  CHECK_FALSE(checkpoint::is_same_store(reference, checkpoint::identify_store(request.folder)));
}

TEST_CASE("the folder is a model's: configuration and tokenizer lie beside the tensors") {
  Shared shared;
  const std::string base = family::fixture("llama-tiny");
  const auto request = request_for(base, shared.folder);
  convert::upcycle(*shared.world, request);
  CHECK(family::read_model_spec(request.folder.string()) == request.spec);
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) {
    REQUIRE(fs::exists(fs::path(base) / name));
    CHECK(io::read_file(request.folder / name) == io::read_file(fs::path(base) / name));
  }
}

TEST_CASE("a second run finds the same checkpoint; another seed, model or base is refused") {
  Shared shared;
  const std::string base = family::fixture("llama-tiny");
  auto request = request_for(base, shared.folder);
  convert::upcycle(*shared.world, request);
  CHECK(convert::upcycle(*shared.world, request).already_there);
  const std::string begin =
      request.folder.string() + " holds a step 0 that was made from something else; it differs in ";
  const std::string end = "; choose another run.folder or model.store, or remove it";
  request.seed = 8;
  CHECK(error_of(*shared.world, request) == begin + "/seed" + end);
  request.seed = 7;
  request.spec.pesc->adapter_dim = 32;
  CHECK(error_of(*shared.world, request) == begin + "/config/adapter_dim" + end);
  const std::string other = changed_base(shared, "model.norm.weight", [](float* values) { values[0] += 1; });
  CHECK(error_of(*shared.world, request_for(other, shared.folder)) == begin + "/base" + end);

  shared.world->barrier("test damage");
  if (shared.world->rank() == 0) fs::remove(request.folder / "shard-00000.h5");
  request.spec.pesc->adapter_dim = 24;
  const std::string damaged = error_of(*shared.world, request);
  CHECK(damaged.starts_with(request.folder.string() + " holds this step 0, but it is damaged ("));
  CHECK(damaged.find("shard-00000.h5") != std::string::npos);
}

TEST_CASE("a weight that is not finite is refused on all ranks and commits nothing") {
  Shared shared;
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const std::string base = changed_base(shared, name, [](float* values) { values[3] = NAN; });
  const auto request = request_for(base, shared.folder);
  const std::string message = error_of(*shared.world, request);
  CHECK(message.find(base + ": " + name + " holds NaN or infinity in row 0, element 3") != std::string::npos);
  CHECK_FALSE(fs::exists(request.folder / "manifest.json"));
}

TEST_CASE("a base with adapters keeps them, and gets the updates that are asked for") {
  Shared shared;
  const std::string base = family::fixture("camelidae-tiny");
  const auto request = request_for(base, shared.folder);
  const family::ModelSpec spec = family::read_model_spec(base);
  CHECK(request.spec.pesc == spec.pesc);
  convert::upcycle(*shared.world, request);
  const checkpoint::CheckpointReader reader(request.folder);
  const family::HuggingFaceSource files(base, spec);
  int kept = 0;
  for (const auto& parameter : family::parameter_specs(request.spec)) {
    if (!files.contains(parameter.name)) continue;
    INFO(parameter.name);
    kept += parameter.trainable ? 1 : 0;
    CHECK(bytes_of(reader, parameter.name, core::DType::f32) == bytes_of(files, parameter.name, core::DType::f32));
  }
  CHECK(kept == 3 * spec.layers);
}
