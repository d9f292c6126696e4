// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace caravan::io {

/// Throws core::Error "cannot <what> <path>: <the system's reason>" for an errno value: exit 74 when the storage is
/// full or over quota (ENOSPC, EDQUOT), else exit 2.
[[noreturn]] void throw_system_error(const std::string& what, const std::filesystem::path& path, int error);

}  // namespace caravan::io
