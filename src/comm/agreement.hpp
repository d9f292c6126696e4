// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace caravan::comm {

/// An error that every rank of the world threw together, so that nobody waits for anybody: the program can end in order,
/// and one rank reports it.
class AgreedError : public core::Error {
 public:
  using core::Error::Error;
};

/// Runs `work` on every rank, then makes its failures common: when any rank threw, all ranks throw AgreedError with the
/// message of the lowest that did. `work` must not call collectives.
void on_all_ranks(Communicator& world, const std::function<void()>& work);

/// Throws AgreedError (exit 2) when the text differs between ranks, naming one of them: "ranks 0 and 3 have different
/// WHAT".
void require_same(Communicator& world, const std::string& what, const std::string& text);

}  // namespace caravan::comm
