// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "config/config.hpp"
#include "config/flags.hpp"
#include "config/ini.hpp"
#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::config {
namespace {

/// Two settings of which a source gives at most one.
struct Exclusive {
  const char* first;
  const char* second;
  bool zero_leaves_other;  // "steps = 0" says: the epochs decide
};
constexpr std::array<Exclusive, 2> exclusives{
    {{"train.steps", "train.epochs", true}, {"train.warmup_steps", "train.warmup_ratio", false}}};

/// Applies settings of one source after the other to a Config and collects every error.
class Loader {
 public:
  explicit Loader(Config& config) : fields_(fields_of(config)) {
    for (const Field& field : fields_) names_.push_back(field.name());
    config.sections([this](const char* name, auto&) { sections_.emplace_back(name); });
  }

  void read_file(const std::string& file) {
    if (std::filesystem::is_directory(file)) core::bad_input(file, ": is a folder, not a configuration file");
    std::ifstream in(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (!in.is_open() || in.bad()) core::bad_input(file, ": cannot be read");
    for (const IniLine& line : read_ini(text, file, errors_)) {
      const std::string where = core::concat(file, ":", line.number, ": ");
      if (std::find(sections_.begin(), sections_.end(), line.section) == sections_.end()) {
        if (line.key.empty()) unknown(where, "section", line.section, sections_);
      } else if (!line.key.empty()) {
        set(where, line.section + "." + line.key, line.value, true);
      }
    }
    end_source();
  }

  void read_command_line(const std::vector<std::string>& arguments) {
    try {
      for (const Flag& flag : split_flags(arguments, names_)) {
        if (flag.known) {
          set("command line: ", flag.name, flag.value, false);
        } else if (!flag.name.empty()) {
          unknown("command line: ", "setting", flag.name, names_);
        } else {
          errors_.push_back("command line: unexpected argument " + flag.word + "; settings are --section.key=value");
        }
      }
    } catch (const core::Error& error) {
      errors_.push_back(core::concat("command line: ", error.what()));
    }
    end_source();
  }

  void finish() {
    const Field& steps = field("train.steps");
    const Field& epochs = field("train.epochs");
    if (format(steps) == "0" && format(epochs) == "0") {
      errors_.emplace_back("train.steps and train.epochs are both 0: set one of them");
    }
    if (errors_.empty()) return;
    std::string message;
    for (const std::string& error : errors_) message += (message.empty() ? "" : "\n") + error;
    throw core::Error(core::ExitCode::bad_input, message);
  }

 private:
  const Field& field(const std::string& name) const {
    return fields_[static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin())];
  }

  void unknown(const std::string& where, const char* kind, const std::string& name,
               const std::vector<std::string>& candidates) {
    // A missing ending first; then a right key in a wrong section is nearer than any misspelling.
    const std::string key = name.substr(name.find('.') + 1);
    std::string longer, elsewhere;
    for (const std::string& candidate : candidates) {
      if (candidate.starts_with(name)) longer = candidate;
      if (candidate.substr(candidate.find('.') + 1) == key) elsewhere = candidate;
    }
    const std::string near = !longer.empty()      ? longer
                             : !elsewhere.empty() ? elsewhere
                                                  : core::nearest_match(name, candidates);
    errors_.push_back(
        core::concat(where, "unknown ", kind, " ", name, near.empty() ? "" : "; did you mean " + near + "?"));
  }

  void set(const std::string& where, const std::string& name, const std::string& value, bool in_file) {
    if (std::find(names_.begin(), names_.end(), name) == names_.end()) {
      return unknown(where, "setting", name, names_);
    }
    const Field& target = field(name);
    const std::size_t errors_before = errors_.size();
    std::vector<std::string> items = split_value(value, target.is_list(), in_file, where, errors_);
    for (std::string& item : items) item = expand_variables(item, where, errors_);
    const auto earlier = given_.find(name);
    if (earlier != given_.end() && !target.is_list()) {
      errors_.push_back(where + name + " is given twice; before: " + earlier->second.where);
    }
    if (errors_.size() > errors_before) return;
    Given& given = given_.try_emplace(name, Given{where.substr(0, where.size() - 2), {}}).first->second;
    given.items.insert(given.items.end(), items.begin(), items.end());  // lists may be given line by line
    const std::string complaint = assign(target, given.items);
    if (!complaint.empty()) errors_.push_back(where + complaint);
  }

  // Settings that exclude each other may replace each other from one source to the next, but not within one.
  void end_source() {
    for (const Exclusive& pair : exclusives) {
      const auto first = given_.find(pair.first), second = given_.find(pair.second);
      if (first != given_.end() && second != given_.end()) {
        if (format(field(pair.first)) != "0" && format(field(pair.second)) != "0") {
          errors_.push_back(core::concat(second->second.where, ": ", pair.second, " excludes ", pair.first, " (",
                                         first->second.where, "): give one of them"));
        }
      } else if (first != given_.end() || second != given_.end()) {
        const bool is_first = first != given_.end();
        const bool zero = format(field(is_first ? pair.first : pair.second)) == "0";
        if (!zero || !pair.zero_leaves_other) assign(field(is_first ? pair.second : pair.first), {"0"});
      }
    }
    given_.clear();
  }

  struct Given {
    std::string where;  // "FILE:LINE" or "command line"
    std::vector<std::string> items;
  };
  std::vector<Field> fields_;
  std::vector<std::string> names_, sections_;
  std::map<std::string, Given> given_;
  std::vector<std::string> errors_;
};

}  // namespace

Config load(const std::string& file, const std::vector<std::string>& command_line) {
  Config config;
  config.file = file;
  Loader loader(config);
  if (!file.empty()) loader.read_file(file);
  loader.read_command_line(command_line);
  loader.finish();
  return config;
}

}  // namespace caravan::config
