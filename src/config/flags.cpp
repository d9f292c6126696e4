// SPDX-License-Identifier: Apache-2.0
#include "config/flags.hpp"

#include <boost/program_options.hpp>

#include "core/error.hpp"

namespace caravan::config {
namespace {

namespace po = boost::program_options;

// Boost refuses "--name=", which sets a text to nothing; until it has run, this stands for the empty value.
const std::string nothing = "\x01";

std::string from_boost(const po::option& option) {
  if (option.value.empty() || option.value.front() == nothing) return "";
  return option.value.front();
}

}  // namespace

std::vector<Flag> split_flags(const std::vector<std::string>& arguments, const std::vector<std::string>& names) {
  po::options_description known;
  for (const std::string& name : names) known.add_options()(name.c_str(), po::value<std::string>());
  std::vector<std::string> words = arguments;
  for (std::string& word : words) {
    if (word.starts_with("--") && word.find('=') == word.size() - 1) word += nothing;
  }
  using namespace po::command_line_style;
  std::vector<Flag> flags;
  try {
    const auto parsed = po::command_line_parser(words)
                            .options(known)
                            .style(unix_style & ~allow_guessing & ~allow_short)
                            .allow_unregistered()
                            .run();
    for (const auto& option : parsed.options) {
      Flag flag;
      flag.word = option.original_tokens.empty() ? "" : option.original_tokens.front();
      if (flag.word.ends_with(nothing)) flag.word.pop_back();
      flag.known = !option.unregistered && !option.string_key.empty();
      if (flag.known || flag.word.starts_with("--")) flag.name = option.string_key;
      flag.value = from_boost(option);
      flags.push_back(std::move(flag));
    }
  } catch (const po::error& error) {
    core::bad_input(error.what());
  }
  return flags;
}

}  // namespace caravan::config
