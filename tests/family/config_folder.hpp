// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"
#include "family/model_spec.hpp"
#include "tests/family/fixtures.hpp"
#include "tests/support/catch.hpp"

// Specifications read from a config.json that a test makes up.
namespace caravan::family {

/// A model folder with this config.json that goes away again.
class Folder {
 public:
  explicit Folder(const std::string& config)
      : path_(std::filesystem::temp_directory_path() / ("caravan_model_spec_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << config;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline nlohmann::json fixture_config(const std::string& model) {
  return nlohmann::json::parse(std::ifstream(fixture(model) + "/config.json"));
}

inline ModelSpec read(const nlohmann::json& config) { return read_model_spec(Folder(config.dump()).path()); }

inline std::string error_of(const std::string& config) {
  const Folder folder(config);
  try {
    read_model_spec(folder.path());
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    const std::string message = error.what(), file = folder.path() + "/config.json: ";
    CHECK(message.substr(0, file.size()) == file);
    return message.substr(file.size());
  }
  return "no error";
}

}  // namespace caravan::family
