// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "watch/rank_state.hpp"

namespace caravan::watch {

/// What the watchdogs of a job tell each other through files: FOLDER/rank-00003.json, the state of a rank;
/// FOLDER/alarm, made by the one rank that looks for the late one; FOLDER/stack-00003.txt, the stack of a rank that
/// does not wait, while there is an alarm. Failures are not errors: a run does not end for them. Files are opened anew
/// each time, since network file systems show another host's writes then.
class WatchFolder {
 public:
  WatchFolder(std::filesystem::path folder, int rank) : folder_(std::move(folder)), rank_(rank) {}

  void write_state(const RankState& state) const;
  /// Unknown when it cannot be read, or is just being written.
  RankState read_state(int rank) const;

  /// Whether this rank now leads: it made the alarm, or nobody can.
  bool raise_alarm() const;
  bool alarm() const;
  void withdraw_alarm() const;

  void write_stack(const std::string& text) const;
  std::optional<std::string> read_stack(int rank) const;
  void remove_stack() const;

  /// This rank's files, and the folder when it is empty then.
  void clean_up() const;

 private:
  std::filesystem::path file(const char* kind, int rank, const char* suffix) const;

  std::filesystem::path folder_;
  int rank_;
};

}  // namespace caravan::watch
