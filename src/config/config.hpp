// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/options.hpp"
#include "comm/options.hpp"
#include "config/field.hpp"
#include "config/options.hpp"
#include "convert/options.hpp"
#include "data/options.hpp"
#include "evaluate/options.hpp"
#include "family/options.hpp"
#include "layout/options.hpp"
#include "train/options.hpp"

namespace caravan::config {

/// Every room's options, and the file that set them.
struct Config {
  RunOptions run;
  family::ModelOptions model;
  convert::UpcycleOptions upcycle;
  family::LoraOptions lora;
  data::Options data;
  layout::Options layout;
  train::Options train;
  checkpoint::Options checkpoint;
  evaluate::Options evaluate;
  convert::ExportOptions export_;
  comm::Options watchdog;
  std::string file;  // empty: no file, defaults and command line only

  /// Calls each(name, options) for every section, in the order of help and dump.
  template <typename Each>
  void sections(Each&& each) {
    each("run", run);
    each("model", model);
    each("upcycle", upcycle);
    each("lora", lora);
    each("data", data);
    each("layout", layout);
    each("train", train);
    each("checkpoint", checkpoint);
    each("evaluate", evaluate);
    each("export", export_);
    each("watchdog", watchdog);
  }
};

/// Every setting, with pointers into `config`.
std::vector<Field> fields_of(Config& config);

/// Reads an INI file ("": none) and then the command line's "--section.key=value" or "--section.key value", which
/// replace the file's. ${NAME} is expanded in both. Throws (exit 2) one message with all errors, one a line,
/// "FILE:LINE: …": unknown sections and settings with the nearest match, a setting given twice, values of the wrong
/// type or out of range, and both of a pair that excludes itself (train.steps and train.epochs, train.warmup_steps and
/// train.warmup_ratio). Giving one of a pair sets the other to 0.
Config load(const std::string& file, const std::vector<std::string>& command_line);

/// One paragraph per section, one entry per setting: name, unit, default, range, meaning.
std::string help();

/// A complete INI file, every setting with its meaning and range; load() reads it back to the same values.
std::string dump(const Config& config);

/// {"train": {"steps": 12, …}, …}: one line.
std::string json(const Config& config);

/// What a subcommand cannot do without and what settings demand of each other. Throws (exit 2) all complaints, one a
/// line: "set [run] folder=… in FILE or pass --run.folder=…".
void validate(const Config& config, const std::string& command);

}  // namespace caravan::config
