// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace caravan::core {

/// While it lives, SIGUSR1 and SIGTERM only raise a flag; afterwards the former handlers are back, unless a signal
/// came: then they keep doing nothing, so that a second one interrupts neither the save that the first one caused nor
/// the end of the program with its exit code.
class StopRequest {
 public:
  StopRequest();
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// The signal that asked this process to stop, or 0. Other ranks may have been asked when this one was not.
  static int signal();
};

}  // namespace caravan::core
