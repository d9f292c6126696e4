// SPDX-License-Identifier: Apache-2.0
#include "comm/agreement.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace caravan::comm {

Failure attempt(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const core::Error& error) {
    return {error.code(), error.what()};
  } catch (const std::filesystem::filesystem_error& error) {
    const int code = error.code().value();
    return {code == ENOSPC || code == EDQUOT ? core::ExitCode::storage_full : core::ExitCode::bad_input, error.what()};
  } catch (const std::exception& error) {
    return {core::ExitCode::internal, error.what()};
  }
}

void on_all_ranks(Communicator& world, const std::function<void()>& work) {
  const Failure mine = attempt(work);
  // One character of exit code, then the message; empty: no failure.
  const std::string told =
      mine.code == core::ExitCode::done ? "" : std::string(1, static_cast<char>(mine.code)) + mine.message;
  const std::vector<std::string> failures = world.all_gather_text("agree on success", told);
  for (std::size_t rank = 0; rank < failures.size(); ++rank) {
    if (failures[rank].empty()) continue;
    const auto code = static_cast<core::ExitCode>(static_cast<unsigned char>(failures[rank][0]));
    const std::string who = rank > 0 ? "rank " + std::to_string(rank) + ": " : "";
    throw AgreedError(code, who + failures[rank].substr(1));
  }
}

namespace {

/// The part of `text` around the first place where it differs from `other`, in quotes.
std::string around_difference(const std::string& text, const std::string& other) {
  const auto place = static_cast<std::size_t>(
      std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first - text.begin());
  constexpr std::size_t before = 40, after = 20;
  const std::size_t begin = place > before ? place - before : 0;
  return '"' + text.substr(begin, place - begin + after) + '"';
}

}  // namespace

void require_same(Communicator& world, const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = world.all_gather_text("compare between ranks", text);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    throw AgreedError(
        core::ExitCode::bad_input,
        core::concat("ranks 0 and ", rank, " have different ", what, ": ", around_difference(texts[0], texts[rank]),
                     " and ", around_difference(texts[rank], texts[0]), "; start all ranks from the same files"));
  }
}

}  // namespace caravan::comm
