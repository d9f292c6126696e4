// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "watch/activity.hpp"

namespace caravan::watch {

/// A group of ranks: those that name the same communicator and color.
struct Group {
  int id = -1;
  int color = 0;
  std::string name;
  bool operator==(const Group& other) const { return id == other.id && color == other.color; }
};

/// What a rank was doing when it last said so.
struct RankState {
  bool known = false;  // false: it has not said anything that could be read
  std::string host;
  bool waiting = false;     // in the collective below; else it has come out of it
  Group group;              // of the collective that it waits for or waited for last
  std::int64_t number = 0;  // of it in its group, from 1; 0: none yet
  std::string operation;
  double seconds = 0;  // so long
  double quiet = 0;    // seconds without a sign of progress of the main thread
  std::int64_t step = 0;
  std::string phase;
  struct Begun {
    Group group;
    std::int64_t number = 0;  // of the last collective that it has begun
  };
  std::vector<Begun> groups;  // that it is a member of

  std::uint64_t beat = 0;      // grows while its process runs
  std::int64_t beat_time = 0;  // nanoseconds since 1970, by its host's clock

  // Judged by who reads it:
  bool moves = true;  // its beat has grown
  double still = 0;   // seconds since it did

  /// The group's last collective that it has begun; nothing when it is no member.
  std::optional<std::int64_t> begun(const Group& which) const;
};

/// What a page of a process on this node says now.
RankState state_of(const Page& page, const std::string& host);

/// As a file holds it: everything above "Judged".
nlohmann::json to_json(const RankState& state);
/// Unknown when the text is not whole.
RankState parse_state(const std::string& text);

}  // namespace caravan::watch
