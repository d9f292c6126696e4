// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"

namespace caravan::test {

inline std::filesystem::path fixtures() {
  const char* folder = std::getenv("CARAVAN_FIXTURES");
  return folder ? folder : CARAVAN_TEST_DATA "/fixtures";
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return nlohmann::json::parse(file);
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A folder of its own, gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "caravan-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file << bytes;
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

/// A folder with the fixture's tokenizer.model and a configuration of the test's own choice.
inline void write_tokenizer(const TemporaryFolder& folder, bool add_bos_token, bool legacy) {
  std::filesystem::copy_file(fixtures() / "llama-tiny/tokenizer.model", folder / "tokenizer.model");
  auto config = read_json(fixtures() / "llama-tiny/tokenizer_config.json");
  config["add_bos_token"] = add_bos_token;
  config["legacy"] = legacy;
  folder.write("tokenizer_config.json", config.dump());
}

/// The message of the error with exit code 2 that `action` ends with, or "" when it ends well.
template <typename Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const core::Error& error) {
    return error.code() == core::ExitCode::bad_input ? error.what() : "another exit code";
  }
  return "";
}

}  // namespace caravan::test
