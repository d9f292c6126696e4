// SPDX-License-Identifier: Apache-2.0
#include "commands/info.hpp"

#include <cstdio>

#include "config/config.hpp"
#include "config/flags.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "report/info.hpp"

namespace caravan::commands {
namespace {

int print(const report::Request& request) {
  const report::Report report = report::info(request);
  std::fputs(report.text.c_str(), stdout);
  return static_cast<int>(report.problems.empty() ? core::ExitCode::done : core::ExitCode::difference);
}

}  // namespace

std::function<int()> info(const Command& command, const std::vector<std::string>& arguments) {
  report::Request request;
  config::FieldList flags("");
  flags("tensors", request.tensors, core::flag(), "list every tensor");
  flags("verify", request.verify, core::flag(), "read everything and compare every checksum");
  const std::vector<std::string> paths = config::read_flags(command.name, usage_of(command), flags.take(), arguments);
  if (paths.size() != 1) {
    core::bad_input("caravan info takes one path, ", paths.empty() ? "none is given" : core::join(paths) + " are given",
                    "; ", usage_of(command));
  }
  request.path = paths.front();
  request.default_settings = core::parse_json(config::json({}));
  for (const config::Renamed& name : config::renamed_settings()) {  // in checkpoints of older versions
    request.default_settings[name.former_section][name.former_key] = request.default_settings[name.section][name.key];
  }
  request.read_settings = [](const std::string& file) {
    return core::parse_json(config::json(config::load(file, {})));
  };
  return [request] { return print(request); };
}

}  // namespace caravan::commands
