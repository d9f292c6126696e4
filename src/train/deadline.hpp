// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

namespace caravan::train {

/// Seconds since 1970.
double unix_seconds();

/// Whether there is time for more before the job's end, by what steps and saves have taken so far in this start.
class Deadline {
 public:
  /// Without an end: always.
  Deadline() = default;
  /// margin: how long before the end the last save is to be durable. first_save: what a save may take, before one was
  /// measured. Seconds.
  Deadline(std::optional<double> end, double margin, double first_save)
      : end_(end), margin_(margin), first_save_(first_save) {}

  void stepped(double seconds);
  void saved(double seconds);
  /// A save has been written on for so long and is not ready.
  void saving(double seconds);

  double longest_step() const { return step_; }
  /// The longest save, from its begin until it counts.
  double save() const { return save_ ? *save_ : first_save_; }

  /// Whether work of so many seconds and then a save fit before the end, if it is `now`; under_way: another save must
  /// be finished before that one.
  bool fits(double seconds, bool under_way, double now) const;
  /// Whether one save begun at `now` would be durable before the end, the margin used up.
  bool fits_save(double now) const;

 private:
  std::optional<double> end_;
  double margin_ = 0;
  double first_save_ = 0;
  double step_ = 0;
  std::optional<double> save_;
};

}  // namespace caravan::train
