// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "comm/mpi_runtime.hpp"
#include "plan/traffic.hpp"
#include "train/phases.hpp"

namespace caravan::train {

/// A number that differs between ranks.
struct OverRanks {
  double mean = 0;
  double most = 0;
};

/// What one step took on the ranks, for `train --profile` and metrics.jsonl.
struct StepProfile {
  struct Operation {
    std::string group;  // "tp", "dp", …
    std::string name;   // of the communicator's verb
    OverRanks calls, messages, bytes, waited;
    std::optional<OverRanks> computed{};  // bytes by the formulas; none where there is none
    int differing = 0;  // ranks whose messages or bytes are not the computed ones, where routing does not decide
  };
  double seconds = 0;
  std::array<OverRanks, phase_names.size()> phases;  // seconds
  std::vector<Operation> operations;                 // those of the step, by group and name

  /// Sums over the operations' means: what a rank sends, and how long it waits, on average.
  double bytes() const;
  double waited() const;

  nlohmann::json to_json() const;
  /// A table with a line per phase and operation, the last one without a line feed.
  std::string to_text() const;
};

/// Takes the difference of what the communicators have booked between two calls.
class Profiler {
 public:
  /// Begins now. `groups` outlives it.
  explicit Profiler(const comm::Groups& groups);

  /// Begins again: what was booked since the last step is left out.
  void begin() { before_ = booked(); }

  /// The step since the last call. seconds: the whole step on this rank. computed: what this rank should have sent;
  /// the first time that an operation did not, a warning says so. Collective over the world.
  StepProfile step(double seconds, const PhaseSeconds& phases, const plan::Traffic& computed);

 private:
  /// By group and operation: calls, messages, bytes, seconds waited.
  using Account = std::map<std::pair<std::string, std::string>, std::array<double, 4>>;
  /// So far. All ranks have the same operations: every rank is in a group of each kind, and all ranks of a group call
  /// the same verbs.
  Account booked() const;
  void warn_once(const StepProfile::Operation& operation);

  const comm::Groups& groups_;
  Account before_;
  std::set<std::string> warned_;
};

}  // namespace caravan::train
