// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/error.hpp"

namespace caravan::core {

/// What an errno value is to the program: 74 when the storage is full or over quota (ENOSPC, EDQUOT), 76 when the
/// storage itself failed, be it a disk or the way to a file server (EIO, ESTALE, ETIMEDOUT, ENOTCONN, …), else 2.
ExitCode exit_code_of(int system_error);

/// What to do about it, to be put behind a message: "; free space …"; empty for exit code 2.
std::string advice_on(int system_error);

/// The system did not do what it was asked to do with a file. Save for ENOENT, that says nothing of what the file
/// holds: a checkpoint that cannot be read now is none that is damaged.
class SystemError : public Error {
 public:
  /// The code is exit_code_of(system_error).
  SystemError(int system_error, const std::string& message)
      : Error(exit_code_of(system_error), message), system_error_(system_error) {}
  int system_error() const noexcept { return system_error_; }

 private:
  int system_error_;
};

}  // namespace caravan::core
