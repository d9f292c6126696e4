// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/error.hpp"

namespace caravan::core {

/// Ends the process now, whatever its other threads hang in: the message goes to standard error as log_error() prints
/// it, then to log.txt, but nothing is waited for that takes longer than three seconds in all; no destructor runs. An
/// empty message: without a word. For one rank of an MPI program, whose launcher then ends the others as when a rank
/// dies, and hands on the code.
[[noreturn]] void leave_at_once(ExitCode code, const std::string& message);

/// From now on the process has so many seconds to end by itself; then leave_at_once(). To be called before an error is
/// thrown, or a file is touched, while a thread may never come back from the kernel: what unwinds the stack, or writes
/// to the log, may wait for it. A later call takes the place of a former one.
void leave_within(double seconds, ExitCode code, const std::string& message);

}  // namespace caravan::core
