// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/options.hpp"
#include "run/run_folder.hpp"

namespace caravan::run {

/// What a configuration says of the stages' results: where each lies, and how long training goes.
struct StageSettings {
  std::string store{};                 // model.store; empty: the run's own step 0
  std::string base{};                  // model.base, which has the tokenizer unless [data] names one
  data::Options data{};                // [data]
  std::int64_t sequence = 0;           // train.sequence
  std::string resume = "auto";         // checkpoint.resume
  std::int64_t steps = 0;              // train.steps; 0: by epochs
  std::int64_t epochs = 0;             // train.epochs
  std::int64_t batch = 1;              // train.batch
  std::optional<std::int64_t> step{};  // checkpoint.step, which evaluate and export take; none: the newest
  std::int64_t samples = 0;            // evaluate.samples
  std::string precision{};             // train.precision
  std::string export_folder{};         // export.folder; empty: in the run folder
  bool merge = true;                   // export.merge
  std::string dtype = "auto";          // export.dtype
  std::string format = "pesc";         // export.format
  std::string adapter{};               // model.adapter
  nlohmann::json upcycle{};            // [upcycle], {"seed": 42, …}; null: step 0 is not compared with it
};

/// What lies on disk of a stage.
struct Stage {
  std::string name{};              // "upcycle"
  bool done = false;               // its result is there, whole, and what the configuration asks for
  std::filesystem::path result{};  // where it is, or will be; empty where that is not known yet
  std::string made_by{};           // the program that wrote it; empty when there is none or it does not say
  nlohmann::json settings{};       // that it was made with, as it says itself; null when it does not
  std::string problem{};           // one line: why a result that is there is none, or is not to be used
};

/// The checkpoints of a run, and how far it is to go.
struct Checkpoints {
  std::vector<std::int64_t> committed{};      // steps, ascending
  std::optional<std::int64_t> newest_good{};  // see checkpoint::newest_good
  std::vector<std::string> damaged{};         // why newer ones are none, one line each
  std::optional<std::int64_t> planned{};      // the last step of training; none while the data are not prepared
};

/// Reads only. Throws what is no damage: core::SystemError, and checkpoint::NewerVersion.
Checkpoints read_checkpoints(const RunFolder& run, const StageSettings& settings);

/// upcycle, prepare, train, evaluate and export, in this order. Each result is put in its place by one rename, its
/// last act: a manifest, a packed file (after its held-out one), a folder. Packed files that were made with other
/// settings are no result, but for a run that has trained already: it could not go on beside others. Reads only; throws
/// likewise.
std::vector<Stage> read_stages(const RunFolder& run, const StageSettings& settings, const Checkpoints& checkpoints);

/// A number that grows with what another start of the job would find: the results of the first stages, then the newest
/// committed step.
std::int64_t progress_number(const std::vector<Stage>& stages, const Checkpoints& checkpoints);

}  // namespace caravan::run
