// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace caravan::report {

struct Request {
  std::filesystem::path path;
  bool tensors = false;  // list every tensor with shape, element type and place
  bool verify = false;   // read everything that has a checksum

  // How settings are read is above this room: {"train": {"lr": 0.0002, …}, …}, of no file and of one (throws exit 2).
  nlohmann::json default_settings = nlohmann::json::object();
  std::function<nlohmann::json(const std::string& file)> read_settings;
};

struct Report {
  std::string text;                   // for a person: aligned lines, the problems among them
  std::vector<std::string> problems;  // what the checks found wrong
};

/// Says what a file or folder is that this program reads or writes: a checkpoint (or a file of one), a run folder, a
/// packed token file, a Hugging Face model folder, a safetensors file, a configuration. Changes nothing and takes no
/// lock. Throws (exit 2) when the path is none of these, or too damaged to say more; with `verify` damage of a known
/// kind is a problem of the report instead.
Report info(const Request& request);

}  // namespace caravan::report
