// SPDX-License-Identifier: Apache-2.0
#include "commands/status.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "config/config.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "run/checkpoint_choice.hpp"
#include "run/status.hpp"

namespace caravan::commands {
namespace {

namespace fs = std::filesystem;

enum class Form { text, json, shell };

/// Takes `flag` out of the words; whether it was there.
bool take(std::vector<std::string>& words, const char* flag) {
  const auto at = std::find(words.begin(), words.end(), flag);
  if (at == words.end()) return false;
  words.erase(at);
  return true;
}

/// The settings of a run folder are those that its newest start left there; the folder may have been moved since.
config::Config load(const std::string& path, const std::vector<std::string>& settings) {
  if (!fs::is_directory(path)) return config::load(path, settings);
  const fs::path file = run::RunFolder(path).config();
  config::Config config = config::load(fs::exists(file) ? file.string() : "", settings);
  config.run.folder = path;
  return config;
}

/// The settings of [data], with the tokenizer that training takes: that of step 0, where it is there.
data::Options data_of(const config::Config& config) {
  data::Options data = config.data;
  const fs::path store = run::step_0_folder(run::RunFolder(config.run.folder), config.model.store);
  if (data.tokenizer.empty() && fs::exists(store / "manifest.json") && fs::exists(store / "tokenizer.model")) {
    data.tokenizer = store.string();
  }
  return data;
}

run::StageSettings settings_of(const config::Config& config) {
  // A run folder in which no training has begun does not say what its step 0 was to be made with.
  const bool known = !config.file.empty();
  return {.store = config.model.store,
          .base = config.model.base,
          .data = data_of(config),
          .sequence = config.train.sequence,
          .resume = config.checkpoint.resume,
          .steps = config.train.steps,
          .epochs = config.train.epochs,
          .batch = config.train.batch,
          .step = config.checkpoint.chosen_step(),
          .samples = config.evaluate.samples,
          .precision = std::string(core::spelling(config.train.precision)),
          .export_folder = config.export_.folder,
          .merge = config.export_.merge,
          .dtype = std::string(core::spelling(config.export_.dtype)),
          .format = std::string(core::spelling(config.export_.format)),
          .adapter = config.model.adapter,
          .upcycle = known ? core::parse_json(config::json(config)).at("upcycle") : nlohmann::json()};
}

std::string text_in(Form form, const run::RunFolder& folder, const run::StageSettings& settings) {
  if (form == Form::shell) {
    std::fputs(run::shell_line("run_folder", folder.path().string()).c_str(),
               stdout);  // also while its storage is away
    const run::Checkpoints checkpoints = run::read_checkpoints(folder, settings);
    return run::to_shell(run::read_stages(folder, settings, checkpoints), checkpoints);
  }
  const run::Status status = run::read_status(folder, settings);
  return form == Form::json ? core::json_text(run::to_json(status), 1) + "\n" : run::to_text(status);
}

}  // namespace

std::function<int()> status(const Command& command, const std::vector<std::string>& arguments) {
  const std::string usage = usage_of(command);
  std::vector<std::string> words = arguments;
  const bool json = take(words, "--json");
  const bool shell = take(words, "--shell");
  if (json && shell) core::bad_input("caravan status prints one form: --json or --shell; ", usage);
  if (words.empty() || words[0].starts_with("--")) {
    core::bad_input("caravan status needs a run folder or a configuration file; ", usage);
  }
  if (!fs::exists(words[0])) core::bad_input(words[0], ": there is no such run folder or configuration file");
  const config::Config config = load(words[0], {words.begin() + 1, words.end()});
  if (config.run.folder.empty()) {
    core::bad_input(words[0], " sets no folder in [run]: add it there, or pass --run.folder=...");
  }
  core::Complaints complaints(config.file);
  config.checkpoint.check(complaints);
  complaints.end();
  const Form form = json ? Form::json : shell ? Form::shell : Form::text;
  return [config, form] {
    std::fputs(text_in(form, run::RunFolder(config.run.folder), settings_of(config)).c_str(), stdout);
    return 0;
  };
}

}  // namespace caravan::commands
