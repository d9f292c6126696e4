// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/reader.hpp"
#include "checkpoint/retention.hpp"
#include "checkpoint/save.hpp"
#include "comm/mpi_runtime.hpp"
#include "convert/upcycle.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "family/parameters.hpp"
#include "io/atomic_file.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan::tests {

using Shared = test::SharedFolder;

/// A value that looks trained, from name and index alone.
inline float trained_value(const std::string& name, std::size_t index) {
  return 0.2F * (core::uniform(core::hash_name(name.data(), name.size()), index) - 0.5F);
}

/// A run of all ranks: a tiny base upcycled, and a checkpoint of step 5 beside it whose trainables are all non-zero.
class Trained : public Shared {
 public:
  explicit Trained(const std::string& base_name = "llama-tiny",
                   const std::optional<family::Lora>& lora = family::Lora{4,
                                                                          10,
                                                                          {"q_proj", "o_proj", "up_proj", "down_proj"}})
      : base(family::fixture(base_name)) {
    spec = family::crafted(family::read_model_spec(base), {3, 2, 24, 0.25}, lora);
    store = checkpoint::step_folder(folder, 0);
    convert::upcycle(*world, {base, spec, store, 7, "test"});
    save();
  }

  /// A checkpoint in which one value, if named, is another.
  void save(std::int64_t step = 5, const std::string& changed = "", float value = 0) {
    checkpoint::SaveRequest request;
    request.step = step;
    request.folder = checkpoint::step_folder(folder, step);
    request.store = checkpoint::store_reference(store, request.folder);
    std::map<std::string, std::vector<float>> values;
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

  std::string base;
  std::filesystem::path store;
  family::ModelSpec spec;
  std::optional<checkpoint::CheckpointReader> reader;
};

inline std::vector<float> read_all(const layout::TensorSource& source, const std::string& name) {
  const auto shape = source.info(name).shape;
  std::vector<float> values(static_cast<std::size_t>(layout::element_count(shape)));
  source.read(name, layout::whole(shape), core::DType::f32, values.data());
  return values;
}

/// Every file below a folder: name relative to it → bytes.
inline std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(folder).string()] = io::read_file(entry.path());
  }
  return files;
}

/// What bad input is refused with.
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

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace caravan::tests
