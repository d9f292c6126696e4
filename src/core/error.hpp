// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace caravan::core {

/// Exit codes of the program; the batch scripts act on them (docs: README, "Exit codes").
enum class ExitCode : int {
  done = 0,
  difference = 1,     // verify or check found a difference
  bad_input = 2,      // bad input or configuration; nothing was written
  numerics = 16,      // non-finite loss or gradient
  internal = 70,      // a defect of the program; or stopped before anything was finished
  storage_full = 74,  // no space left, or over quota: never requeue
  requeue = 75,       // stopped by a signal with a good checkpoint
  peer_lost = 76,     // another rank was lost or hung, or the storage failed for a moment: retry
};

/// An error that ends the program. what() is one message for a person: what is wrong, where, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

/// Joins its arguments as operator<< prints them.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  out.precision(9);
  (out << ... << parts);
  return out.str();
}

/// Throws Error with exit code 2: the user's input, file or configuration is wrong.
template <typename... Parts>
[[noreturn]] void bad_input(const Parts&... parts) {
  throw Error(ExitCode::bad_input, concat(parts...));
}

/// Throws Error with exit code 70: the program broke a promise that it makes to itself.
template <typename... Parts>
[[noreturn]] void internal_error(const Parts&... parts) {
  throw Error(ExitCode::internal, concat("internal error: ", parts...));
}

/// Holds in every build. For what only a defect of the program can break; user input goes through bad_input.
#define CARAVAN_CHECK(condition, ...)                                                                 \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      ::caravan::core::internal_error(__FILE__, ":", __LINE__, ": ", #condition, " ", ##__VA_ARGS__); \
    }                                                                                                 \
  } while (false)

}  // namespace caravan::core
