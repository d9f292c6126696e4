// SPDX-License-Identifier: Apache-2.0
#include "comm/agreement.hpp"

namespace caravan::comm {

void on_all_ranks(Communicator& world, const std::function<void()>& work) {
  // One character of exit code, then the message; empty: no failure.
  std::string failure;
  const auto remember = [&](core::ExitCode code, const char* message) {
    failure = std::string(1, static_cast<char>(code)) + message;
  };
  try {
    work();
  } catch (const core::Error& error) {
    remember(error.code(), error.what());
  } catch (const std::exception& error) {
    remember(core::ExitCode::internal, error.what());
  }
  const std::vector<std::string> failures = world.all_gather_text("agree on success", failure);
  for (std::size_t rank = 0; rank < failures.size(); ++rank) {
    if (failures[rank].empty()) continue;
    const auto code = static_cast<core::ExitCode>(static_cast<unsigned char>(failures[rank][0]));
    const std::string who = rank > 0 ? "rank " + std::to_string(rank) + ": " : "";
    throw AgreedError(code, who + failures[rank].substr(1));
  }
}

void require_same(Communicator& world, const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = world.all_gather_text("compare between ranks", text);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    throw AgreedError(core::ExitCode::bad_input,
                      core::concat("ranks 0 and ", rank, " have different ", what, ": \"", texts[0], "\" and \"",
                                   texts[rank], "\"; start all ranks from the same files"));
  }
}

}  // namespace caravan::comm
