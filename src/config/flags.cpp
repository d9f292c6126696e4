// SPDX-License-Identifier: Apache-2.0
#include "config/flags.hpp"

#include <boost/program_options.hpp>

#include "config/assigner.hpp"
#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::config {
namespace {

namespace po = boost::program_options;

// Boost refuses "--name=", which sets a text to nothing; until it has run, this stands for the empty value.
const std::string nothing = "\x01";

Flag flag_of(const po::option& option, bool is_switch) {
  Flag flag{option.string_key, option.value.empty() ? "" : option.value.front(), !option.unregistered};
  if (flag.value == nothing) flag.value.clear();
  if (is_switch) flag.value = "true";
  return flag;
}

}  // namespace

CommandLine split_flags(const std::vector<std::string>& arguments, const std::vector<std::string>& names,
                        const std::vector<std::string>& switches) {
  po::options_description known;
  for (const std::string& name : names) known.add_options()(name.c_str(), po::value<std::string>());
  for (const std::string& name : switches) known.add_options()(name.c_str(), "");
  std::vector<std::string> arguments_of_boost = arguments;
  for (std::string& word : arguments_of_boost) {
    if (word.starts_with("--") && word.find('=') == word.size() - 1) word += nothing;
  }
  using namespace po::command_line_style;
  CommandLine line;
  try {
    const auto parsed = po::command_line_parser(arguments_of_boost)
                            .options(known)
                            .style(unix_style & ~allow_guessing & ~allow_short)
                            .allow_unregistered()
                            .run();
    for (const auto& option : parsed.options) {
      if (option.string_key.empty()) {
        for (const std::string& word : option.value) line.words.push_back(word);
      } else {
        line.flags.push_back(
            flag_of(option, std::find(switches.begin(), switches.end(), option.string_key) != switches.end()));
      }
    }
  } catch (const po::error& error) {
    core::bad_input(error.what());
  }
  return line;
}

std::vector<std::string> read_flags(const std::string& command, const std::string& usage, std::vector<Field> fields,
                                    const std::vector<std::string>& arguments) {
  Assigner assigner(std::move(fields), "flag --");
  const CommandLine line = assigner.split("", arguments);
  for (const std::string& word : line.words) {
    if (word.size() > 1 && word[0] == '-') assigner.errors().push_back("unknown flag " + word);
  }
  assigner.set_flags("", line);
  if (!assigner.errors().empty()) {
    core::bad_input("caravan ", command, ": ", core::join(assigner.errors(), "; "), "; ", usage);
  }
  return line.words;
}

}  // namespace caravan::config
