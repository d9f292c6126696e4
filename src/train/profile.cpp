// SPDX-License-Identifier: Apache-2.0
#include "train/profile.hpp"

#include <algorithm>
#include <cstdio>

#include "core/error.hpp"

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
  append_line(text, "  %-48s %6s %9s %10s %10s %8s %8s", "collective", "calls", "messages", "MB", "largest", "waited",
              "largest");
  const auto line = [&](const std::string& name, double calls, double messages, const OverRanks& bytes,
                        const OverRanks& waited) {
    append_line(text, "  %-48s %6.0f %9.0f %10.3f %10.3f %8.4f %8.4f", name.c_str(), calls, messages, bytes.mean / 1e6,
                bytes.most / 1e6, waited.mean, waited.most);
  };
  for (const Operation& operation : operations) {
    line(operation.group + ": " + operation.name, operation.calls.mean, operation.messages.mean, operation.bytes,
         operation.waited);
  }
  append_line(text, "  %-48s %27.3f %19.4f", "all", bytes() / 1e6, waited());
  return text;
}

Profiler::Profiler(const comm::Groups& groups) : groups_(groups), before_(booked()) {}

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

StepProfile Profiler::step(double seconds, const PhaseSeconds& phases) {
  std::vector<double> values(phases.begin(), phases.end());
  values.push_back(seconds);
  const auto now = booked();
  for (const auto& [key, numbers] : now) {
    const auto found = before_.find(key);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      values.push_back(numbers[i] - (found == before_.end() ? 0.0 : found->second[i]));
    }
  }
  const std::vector<OverRanks> reduced = over_ranks(*groups_.world, std::move(values));
  StepProfile profile;
  std::copy_n(reduced.begin(), phases.size(), profile.phases.begin());
  profile.seconds = reduced[phases.size()].most;
  std::size_t at = phases.size() + 1;
  for (const auto& [key, numbers] : now) {
    const StepProfile::Operation operation{key.first,       key.second,      reduced[at],
                                           reduced[at + 1], reduced[at + 2], reduced[at + 3]};
    at += numbers.size();
    if (operation.calls.most > 0) profile.operations.push_back(operation);
  }
  CARAVAN_CHECK(at == reduced.size());
  before_ = booked();  // with what this cost itself
  return profile;
}

}  // namespace caravan::train
