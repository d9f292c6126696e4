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
#include "core/complaints.hpp"
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
/// type or out of range, and both of two settings that exclude each other (core::Exclusive). Giving one of those sets
/// the other to 0. A setting's former name is accepted, too.
Config load(const std::string& file, const std::vector<std::string>& command_line);

/// What the words behind a command that takes CONFIG say.
struct Request {
  Config config;
  bool dump = false;  // --dump-config: print the configuration and stop
};

/// Reads "CONFIG [--section.key=value …] [--profile] [--dump-config]" as load() does; --profile is short for
/// --train.profile=true. Throws (exit 2) as load() does, and when CONFIG is missing.
Request read_request(const std::string& command, const std::vector<std::string>& arguments);

/// A setting that once had another name. Files that older versions wrote have that one.
struct Renamed {
  std::string section, key;                // now
  std::string former_section, former_key;  // once
};
std::vector<Renamed> renamed_settings();

/// One paragraph per section, one entry per setting: name, unit, default, range, meaning.
std::string help();

/// A complete INI file, every setting with its meaning and range; load() reads it back to the same values.
std::string dump(const Config& config);

/// {"train": {"steps": 12, …}, …}: one line.
std::string json(const Config& config);

// What each command cannot do without, and what sections demand of each other there. What a section's values demand of
// each other, its room checks.
void check_upcycle(const Config& config, core::Complaints& complaints);
void check_prepare(const Config& config, core::Complaints& complaints);
void check_train(const Config& config, core::Complaints& complaints);
void check_evaluate(const Config& config, core::Complaints& complaints);
void check_export(const Config& config, core::Complaints& complaints);

}  // namespace caravan::config
