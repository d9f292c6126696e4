// SPDX-License-Identifier: Apache-2.0
#include "commands/info.hpp"

#include <cstdio>

#include "config/config.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "report/info.hpp"

namespace caravan::commands {
namespace {

constexpr const char* usage = "usage: caravan info PATH [--tensors] [--verify]";

int print(const report::Request& request) {
  const report::Report report = report::info(request);
  std::fputs(report.text.c_str(), stdout);
  return static_cast<int>(report.problems.empty() ? core::ExitCode::done : core::ExitCode::difference);
}

}  // namespace

Job info(const std::vector<std::string>& arguments) {
  report::Request request;
  std::vector<std::string> paths;
  for (const std::string& word : arguments) {
    if (word == "--tensors") {
      request.tensors = true;
    } else if (word == "--verify") {
      request.verify = true;
    } else if (word.starts_with("-")) {
      const std::string near = core::nearest_match(word, {"--tensors", "--verify"});
      core::bad_input("caravan info: unknown flag ", word, near.empty() ? "" : "; did you mean " + near + "?", "; ",
                      usage);
    } else {
      paths.push_back(word);
    }
  }
  if (paths.size() != 1) {
    core::bad_input("caravan info takes one path, ", paths.empty() ? "none is given" : core::join(paths) + " are given",
                    "; ", usage);
  }
  request.path = paths.front();
  request.default_settings = nlohmann::json::parse(config::json({}));
  request.read_settings = [](const std::string& file) {
    return nlohmann::json::parse(config::json(config::load(file, {})));
  };
  Job job;
  job.alone = [request] { return print(request); };
  return job;
}

}  // namespace caravan::commands
