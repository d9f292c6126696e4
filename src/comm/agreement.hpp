// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace caravan::comm {

/// An error that every rank of the world threw together, so that nobody waits for anybody: the program can end in
/// order, and one rank reports it.
class AgreedError : public core::Error {
 public:
  using core::Error::Error;
};

/// How a piece of work of one rank ended.
struct Failure {
  core::ExitCode code = core::ExitCode::done;
  std::string message;
};

/// Runs `work` and catches what it throws: file system errors become exit 74 (storage full) or 2, unknown ones 70.
Failure attempt(const std::function<void()>& work);

/// Runs `work` on every rank, then makes its failures common: when any rank threw, all ranks throw AgreedError with the
/// message of the lowest that did. `work` must not call collectives.
void on_all_ranks(Communicator& world, const std::function<void()>& work);

/// Throws AgreedError (exit 2) when the text differs between ranks, naming one of them: "ranks 0 and 3 have different
/// WHAT".
void require_same(Communicator& world, const std::string& what, const std::string& text);

}  // namespace caravan::comm
