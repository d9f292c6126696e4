// SPDX-License-Identifier: Apache-2.0
#include "io/system_error.hpp"

#include <cstring>

#include "core/system_error.hpp"

namespace caravan::io {

void throw_system_error(const std::string& what, const std::filesystem::path& path, int error) {
  throw core::SystemError(
      error, core::concat("cannot ", what, " ", path.string(), ": ", std::strerror(error), core::advice_on(error)));
}

}  // namespace caravan::io
