// SPDX-License-Identifier: Apache-2.0
#include "train/profile.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.hpp"
#include "core/log.hpp"

namespace caravan::train {
namespace {

/// Each number's mean and largest value over the ranks. Collective.
std::vector<OverRanks> over_ranks(comm::Communicator& world, std::vector<double> values) {
  std::vector<double> largest = values;
  const auto count = static_cast<std::int64_t>(values.size());
  world.all_reduce("profile", values.data(), count, core::DType::f64, comm::Reduce::sum).wait();
  world.all_reduce("profile", largest.data(), count, core::DType::f64, comm::Reduce::max).wait();
  std::vector<OverRanks> result;
  for (std::size_t i = 0; i < values.size(); ++i) result.push_back({values[i] / world.size(), largest[i]});
  return result;
}

template <typename... Values>
void append_line(std::string& text, const char* format, Values... values) {
  std::array<char, 200> line{};
  std::snprintf(line.data(), line.size(), format, values...);
  text += '\n';
  text += line.data();
}

}  // namespace

double StepProfile::bytes() const {
  double sum = 0;
  for (const Operation& operation : operations) sum += operation.bytes.mean;
  return sum;
}

double StepProfile::waited() const {
  double sum = 0;
  for (const Operation& operation : operations) sum += operation.waited.mean;
  return sum;
}

nlohmann::json StepProfile::to_json() const {
  const auto both = [](const OverRanks& value) { return nlohmann::json{{"mean", value.mean}, {"max", value.most}}; };
  nlohmann::json json{{"seconds", seconds}, {"bytes", bytes()}, {"waited", waited()}};
  for (std::size_t i = 0; i < phases.size(); ++i) json["phases"][phase_names[i]] = both(phases[i]);
  json["collectives"] = nlohmann::json::object();
  for (const Operation& operation : operations) {
    json["collectives"][operation.group + ": " + operation.name] = {{"calls", operation.calls.mean},
                                                                    {"messages", both(operation.messages)},
                                                                    {"bytes", both(operation.bytes)},
                                                                    {"waited", both(operation.waited)}};
    if (operation.computed) {
      json["collectives"][operation.group + ": " + operation.name]["computed"] = both(*operation.computed);
    }
  }
  return json;
}

std::string StepProfile::to_text() const {
  std::string text = "profile of this step: per rank, mean and largest";
  append_line(text, "  %-48s %10s %10s", "phase", "seconds", "largest");
  for (std::size_t i = 0; i < phases.size(); ++i) {
    append_line(text, "  %-48s %10.4f %10.4f", phase_names[i], phases[i].mean, phases[i].most);
  }
  append_line(text, "  %-48s %10.4f", "all", seconds);
  if (operations.empty()) return text;
  append_line(text, "  %-48s %6s %9s %10s %10s %8s %8s %10s", "collective", "calls", "messages", "MB", "largest",
              "waited", "largest", "computed");
  for (const Operation& operation : operations) {
    const std::string name = operation.group + ": " + operation.name;
    std::array<char, 32> computed{"-"};
    if (operation.computed) std::snprintf(computed.data(), computed.size(), "%.3f", operation.computed->mean / 1e6);
    append_line(text, "  %-48s %6.0f %9.0f %10.3f %10.3f %8.4f %8.4f %10s", name.c_str(), operation.calls.mean,
                operation.messages.mean, operation.bytes.mean / 1e6, operation.bytes.most / 1e6, operation.waited.mean,
                operation.waited.most, computed.data());
  }
  append_line(text, "  %-48s %27.3f %19.4f", "all", bytes() / 1e6, waited());
  return text;
}

Profiler::Profiler(const comm::Groups& groups) : groups_(groups), before_(booked()) {}

void Profiler::warn_once(const StepProfile::Operation& operation) {
  const std::string name = operation.group + ": " + operation.name;
  if (operation.differing == 0 || !warned_.insert(name).second) return;
  core::log_warning(core::concat("profile: in \"", name, "\" ", operation.differing, " of ", groups_.world->size(),
                                 " ranks did not send what the formulas of docs/parallelism.md give: ",
                                 operation.bytes.mean, " bytes in the mean, computed ", operation.computed->mean,
                                 ". Training is not affected; please report it with the configuration"));
}

Profiler::Account Profiler::booked() const {
  Account all;
  for (const auto* group : {&groups_.world, &groups_.tp, &groups_.dp, &groups_.ep, &groups_.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) {
      all[{(*group)->name(), operation}] = {static_cast<double>(traffic.calls), static_cast<double>(traffic.messages),
                                            static_cast<double>(traffic.bytes), traffic.waited};
    }
  }
  return all;
}

StepProfile Profiler::step(double seconds, const PhaseSeconds& phases, const plan::Traffic& computed) {
  std::vector<double> values(phases.begin(), phases.end());
  values.push_back(seconds);
  const auto now = booked();
  for (auto [key, numbers] : now) {
    const auto earlier = before_.find(key);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] -= earlier == before_.end() ? 0.0 : earlier->second[i];
      values.push_back(numbers[i]);
    }
    const auto formula = computed.find(key.first + ": " + key.second);
    const bool known = formula != computed.end();
    const plan::Sent sent = known ? formula->second : plan::Sent();
    const bool differs =
        numbers[1] != static_cast<double>(sent.messages) || numbers[2] != static_cast<double>(sent.bytes);
    values.push_back(known ? 1 : 0);
    values.push_back(static_cast<double>(sent.bytes));
    values.push_back(known && differs && !plan::depends_on_routing(formula->first) ? 1 : 0);
  }
  const std::vector<OverRanks> reduced = over_ranks(*groups_.world, std::move(values));
  StepProfile profile;
  std::copy_n(reduced.begin(), phases.size(), profile.phases.begin());
  profile.seconds = reduced[phases.size()].most;
  std::size_t at = phases.size() + 1;
  for (const auto& [key, numbers] : now) {
    StepProfile::Operation operation{key.first,       key.second,      reduced[at],
                                     reduced[at + 1], reduced[at + 2], reduced[at + 3]};
    at += numbers.size();
    if (reduced[at].most > 0) operation.computed = reduced[at + 1];
    operation.differing = static_cast<int>(std::lround(reduced[at + 2].mean * groups_.world->size()));
    at += 3;
    warn_once(operation);
    if (operation.calls.most > 0) profile.operations.push_back(operation);
  }
  CARAVAN_CHECK(at == reduced.size());
  before_ = booked();  // with what this cost itself
  return profile;
}

}  // namespace caravan::train
