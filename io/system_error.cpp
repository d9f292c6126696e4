// SPDX-License-Identifier: Apache-2.0
#include "io/system_error.hpp"

#include <cerrno>
#include <cstring>

#include "core/error.hpp"

namespace caravan::io {

void throw_system_error(const std::string& what, const std::filesystem::path& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  const std::string message = core::concat("cannot ", what, " ", path.string(), ": ", std::strerror(error),
                                           full ? "; free space or raise the quota, then start again" : "");
  throw core::Error(full ? core::ExitCode::storage_full : core::ExitCode::bad_input, message);
}

}  // namespace caravan::io
