// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace caravan::core {

struct ProgramResult {
  int status = 0;      // as a shell has it: the exit code, or 128 + the signal
  std::string output;  // standard output and standard error, at most 64 KiB
};

/// Runs the program `words[0]`, found on PATH, with `words` as its arguments: no shell looks at them. Its environment
/// is this process's but for variables whose names begin with one of `hidden`. Nothing when it can't be started or has
/// not ended after `most`: then it is killed, with the processes that it started.
std::optional<ProgramResult> run_program(const std::vector<std::string>& words,
                                         const std::vector<std::string_view>& hidden, std::chrono::milliseconds most);

}  // namespace caravan::core
