// SPDX-License-Identifier: Apache-2.0
#include "core/system_error.hpp"

#include <cerrno>

namespace caravan::core {

ExitCode exit_code_of(int system_error) {
  switch (system_error) {
    case ENOSPC:
    case EDQUOT: return ExitCode::storage_full;
    case EIO:        // a disk; also a server that a client was cut off from
    case ESTALE:     // a server that no longer knows the file's handle
    case EREMOTEIO:  // what parallel file systems say of a target that is away
    case ECOMM:      // ditto
    case EPROTO:     // ditto
    case ESHUTDOWN:  // a client that was evicted
    case ETIMEDOUT:  // from here on the way to a server
    case ENOTCONN:
    case ENOLINK:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENETRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET: return ExitCode::peer_lost;
    default: return ExitCode::bad_input;
  }
}

std::string advice_on(int system_error) {
  switch (exit_code_of(system_error)) {
    case ExitCode::storage_full: return "; free space or raise the quota, then start again";
    case ExitCode::peer_lost: return "; the storage failed, perhaps for a moment only: start again";
    default: return {};
  }
}

}  // namespace caravan::core
