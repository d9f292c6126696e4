// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

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

/// Runs `work` and catches what it throws: file system errors get the code of core::exit_code_of, unknown ones 70.
Failure attempt(const std::function<void()>& work);

/// Runs `work` on every rank, then makes its failures common: when any rank threw, all ranks throw AgreedError with the
/// message of the lowest that did. `work` must not call collectives.
void on_all_ranks(Communicator& world, const std::function<void()>& work);

/// Something that has to be the same on every rank: a setting, a build, a file's checksum. Neither text holds a zero
/// byte, and a rank names each fact once.
struct Fact {
  std::string name;
  std::string value;
};

/// What is not the same, a text for each fact: "train.lr = 0.0002 on ranks 0 and 2, but 0.0003 on ranks 1 and 3". The
/// same texts on every rank; none when all agree, and then each rank has sent at most 16 bytes to each. Otherwise rank
/// 0 tells its facts, and every other rank what it has that differs from them.
std::vector<std::string> differences(Communicator& world, const std::vector<Fact>& facts);

/// Throws AgreedError (exit 2) with the differences, if there are any, and what to do about them, in one line.
void require_same(Communicator& world, const std::vector<Fact>& facts, const std::string& advice);

}  // namespace caravan::comm
