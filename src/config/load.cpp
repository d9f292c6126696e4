// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "config/assigner.hpp"
#include "config/config.hpp"
#include "config/ini.hpp"
#include "core/error.hpp"

namespace caravan::config {
namespace {

constexpr const char* from_command_line = "command line: ";

std::vector<ExclusivePair> exclusives_of(Config& config) {
  std::vector<ExclusivePair> pairs;
  config.sections([&pairs](const std::string& section, auto& options) {
    if constexpr (requires { options.exclusives; }) {
      for (const core::Exclusive& pair : options.exclusives) {
        pairs.push_back(
            {section + "." + std::string(pair.first), section + "." + std::string(pair.second), pair.one_is_needed});
      }
    }
  });
  return pairs;
}

void read_file(Assigner& assigner, Config& config) {
  const std::string& file = config.file;
  std::vector<std::string> sections;
  config.sections([&sections](const char* name, auto&) { sections.emplace_back(name); });
  if (std::filesystem::is_directory(file)) core::bad_input(file, ": is a folder, not a configuration file");
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.is_open() || in.bad()) core::bad_input(file, ": cannot be read");
  for (const IniLine& line : read_ini(text, file, assigner.errors())) {
    const std::string where = core::concat(file, ":", line.number, ": ");
    if (std::find(sections.begin(), sections.end(), line.section) == sections.end()) {
      if (line.key.empty()) assigner.unknown(where, "section ", line.section, sections);
    } else if (!line.key.empty()) {
      assigner.set(where, line.section + "." + line.key, line.value, true);
    }
  }
  assigner.end_source();
}

void refuse_errors(const std::vector<std::string>& errors) {
  if (errors.empty()) return;
  std::string message;
  for (const std::string& error : errors) message += (message.empty() ? "" : "\n") + error;
  throw core::Error(core::ExitCode::bad_input, message);
}

/// Reads config.file and what a command line says beside it.
void read(Assigner& assigner, Config& config, const CommandLine& line, std::size_t words_taken) {
  if (!config.file.empty()) read_file(assigner, config);
  for (std::size_t i = words_taken; i < line.words.size(); ++i) {
    assigner.errors().push_back(from_command_line + ("unexpected argument " + line.words[i]) +
                                "; settings are --section.key=value");
  }
  assigner.set_flags(from_command_line, line);
  assigner.end();
  refuse_errors(assigner.errors());
}

}  // namespace

Config load(const std::string& file, const std::vector<std::string>& command_line) {
  Config config;
  config.file = file;
  Assigner assigner(fields_of(config), "setting ", exclusives_of(config));
  read(assigner, config, assigner.split(from_command_line, command_line), 0);
  return config;
}

Request read_request(const std::string& command, const std::vector<std::string>& arguments) {
  Request request;
  FieldList switches("");
  switches("dump-config", request.dump, core::flag(), "print the complete configuration and stop");
  switches("profile", request.config.train.profile, core::flag(), "short for --train.profile=true");
  // Before the settings: of two names as near to a misspelt one the last is offered, which is a setting's then.
  std::vector<Field> fields = switches.take();
  for (Field& field : fields_of(request.config)) fields.push_back(std::move(field));
  Assigner assigner(std::move(fields), "setting ", exclusives_of(request.config));
  const CommandLine line = assigner.split(from_command_line, arguments);
  refuse_errors(assigner.errors());
  if (line.words.empty()) {
    core::bad_input("caravan ", command, " needs a configuration file: caravan ", command,
                    " CONFIG [--section.key=value ...]; inputs/ has examples");
  }
  request.config.file = line.words.front();
  read(assigner, request.config, line, 1);
  return request;
}

}  // namespace caravan::config
