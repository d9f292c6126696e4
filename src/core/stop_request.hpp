// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::core {

/// While it lives, SIGUSR1 and SIGTERM only raise a flag; afterwards the former handlers are back, unless a signal
/// came: then they keep doing nothing, so that a second one interrupts neither the save that the first one caused nor
/// the end of the program with its exit code.
class StopRequest {
 public:
  /// consequence: what message() says of a stop at any time; a literal.
  explicit StopRequest(const char* consequence);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// The signal that asked this process to stop, or 0. Other ranks may have been asked when this one was not.
  static int signal();

  /// "stopped by signal 10: CONSEQUENCE".
  static std::string message(int signal);
  /// Throws Error (exit 70) with that message when this process was asked to stop. For long loops whose caller makes
  /// an error of one rank common to all.
  static void check();
};

}  // namespace caravan::core
