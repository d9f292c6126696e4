// SPDX-License-Identifier: Apache-2.0
#include "config/assigner.hpp"

#include <algorithm>

#include "config/ini.hpp"
#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::config {

Assigner::Assigner(std::vector<Field> fields, std::string kind, std::vector<ExclusivePair> exclusives)
    : fields_(std::move(fields)), kind_(std::move(kind)), exclusives_(std::move(exclusives)) {
  for (const Field& field : fields_) names_.push_back(field.name());
}

const Field* Assigner::find(const std::string& name) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) {
    return field.name() == name || (!field.former.empty() && field.former == name);
  });
  return found == fields_.end() ? nullptr : &*found;
}

const Field& Assigner::field(const std::string& name) const {
  const Field* found = find(name);
  CARAVAN_CHECK(found != nullptr, name);
  return *found;
}

void Assigner::unknown(const std::string& where, const std::string& kind, const std::string& name,
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
  const std::string dashes = kind.ends_with("--") ? "--" : "";
  errors_.push_back(
      core::concat(where, "unknown ", kind, name, near.empty() ? "" : "; did you mean " + dashes + near + "?"));
}

CommandLine Assigner::split(const std::string& where, const std::vector<std::string>& arguments) {
  std::vector<std::string> with_value, switches;
  for (const Field& field : fields_) {
    (field.is_switch() ? switches : with_value).push_back(field.name());
    if (!field.former.empty()) with_value.emplace_back(field.former);
  }
  try {
    return split_flags(arguments, with_value, switches);
  } catch (const core::Error& error) {
    errors_.push_back(where + error.what());
    return {};
  }
}

void Assigner::set_flags(const std::string& where, const CommandLine& line) {
  for (const Flag& flag : line.flags) {
    if (flag.known) {
      set(where, flag.name, flag.value, false);
    } else {
      unknown(where, kind_, flag.name, names_);
    }
  }
  end_source();
}

void Assigner::set(const std::string& where, const std::string& name, const std::string& value, bool in_file) {
  const Field* target = find(name);
  if (target == nullptr) return unknown(where, kind_, name, names_);
  const std::size_t errors_before = errors_.size();
  std::vector<std::string> items = split_value(value, target->is_list(), in_file, where, errors_);
  for (std::string& item : items) item = expand_variables(item, where, errors_);
  const std::string place = where.substr(0, where.size() - std::min<std::size_t>(2, where.size()));  // without ": "
  const auto earlier = given_.find(target->name());
  if (earlier != given_.end() && !target->is_list()) {
    const std::string flag = kind_.ends_with("--") ? "--" : "";
    errors_.push_back(where + flag + target->name() + " is given twice" +
                      (earlier->second.where == place ? "" : "; before: " + earlier->second.where));
  }
  if (errors_.size() > errors_before) return;
  Given& given = given_.try_emplace(target->name(), Given{place, {}}).first->second;
  given.items.insert(given.items.end(), items.begin(), items.end());  // lists may be given line by line
  const std::string complaint = assign(*target, given.items);
  if (!complaint.empty()) errors_.push_back(where + complaint);
}

void Assigner::end_source() {
  for (const ExclusivePair& pair : exclusives_) {
    const auto first = given_.find(pair.first), second = given_.find(pair.second);
    if (first != given_.end() && second != given_.end()) {
      if (format(field(pair.first)) != "0" && format(field(pair.second)) != "0") {
        errors_.push_back(core::concat(second->second.where, ": ", pair.second, " excludes ", pair.first, " (",
                                       first->second.where, "): give one of them"));
      }
    } else if (first != given_.end() || second != given_.end()) {
      const bool is_first = first != given_.end();
      const bool zero = format(field(is_first ? pair.first : pair.second)) == "0";
      if (!zero || !pair.one_is_needed) assign(field(is_first ? pair.second : pair.first), {"0"});
    }
  }
  given_.clear();
}

void Assigner::end() {
  for (const ExclusivePair& pair : exclusives_) {
    if (!pair.one_is_needed || format(field(pair.first)) != "0" || format(field(pair.second)) != "0") continue;
    errors_.push_back(core::concat(pair.first, " and ", pair.second, " are both 0: set one of them"));
  }
}

}  // namespace caravan::config
