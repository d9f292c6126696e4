// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "device/device.hpp"

namespace caravan::device {

/// A point in the work that is queued at a place. One that was never recorded is done. On the host every event is done
/// as soon as it is recorded, because work there is done when its call returns.
class Event {
 public:
  /// Behind all work that has been queued at the place so far.
  void record(const Place& place);
  /// Work that is queued at the place from now on starts behind this event. The calling thread does not wait.
  void hold(const Place& place) const;
  bool done() const;

 private:
  class State;  // of the device's library; the host needs none
  std::shared_ptr<State> state_;
};

/// Returns when the event is done. This is the only place where the calling thread waits for a device.
/// what: names the work in messages.
void wait(const Event& event, const char* what);

/// How often this process has called wait(), for the profile: each call may let the device run out of work.
std::int64_t waits();

}  // namespace caravan::device
