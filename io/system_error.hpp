// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace caravan::io {

/// Throws core::SystemError "cannot <what> <path>: <the system's reason>" for an errno value, with what to do about it;
/// core::exit_code_of has the exit codes.
[[noreturn]] void throw_system_error(const std::string& what, const std::filesystem::path& path, int error);

}  // namespace caravan::io
