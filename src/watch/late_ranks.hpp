// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "watch/rank_state.hpp"

namespace caravan::watch {

/// Why collectives do not end.
struct Finding {
  enum class Kind {
    late,      // ranks that compute, or do not move any more, while others wait for them
    order,     // all wait, each for others that wait elsewhere: the ranks do not call the same collectives in one order
    transfer,  // all members have come to a collective, and it does not end
    unknown,   // what is known of the ranks explains nothing, and nothing is known of some
  };
  Kind kind = Kind::unknown;
  std::vector<int> ranks;  // in ascending order; late: whom the others wait for; unknown: of whom nothing is known;
                           // else: the ranks that wait for each other, or in the collective that does not end
};

/// Follows who waits for whom, from `asking`, a rank that waits: a rank waits for the members of its collective's group
/// that have not begun it, and for those that do not move any more; when all have begun it, for those that are not
/// inside a collective, since MPI moves data only there. Who does not wait itself, or does not move, is late.
Finding find_late(const std::vector<RankState>& states, int asking);

/// Those that anybody waits for in this way, whose report might be about others.
std::vector<int> late_for_anybody(const std::vector<RankState>& states);

/// Those of `ranks` that do not move any more, or have shown no sign of progress for longer than this, in seconds. The
/// others work: who waits for them goes on waiting.
std::vector<int> hung(const std::vector<int>& ranks, const std::vector<RankState>& states, double longest_quiet);

/// One line for each late rank and one for those that wait, and what to do, for a person.
std::string describe(const Finding& finding, const std::vector<RankState>& states);

/// The same when nobody waits: each rank works, or hangs, by itself.
std::string describe_alone(const std::vector<RankState>& states);

/// Whether `asking`, which has waited for the deadline, is to say whom it waits for: all of them have shown a sign of
/// progress in the last quarter of that time, and no rank before it has waited for the same ones for half of it.
bool is_to_warn(const std::vector<RankState>& states, int asking, double deadline);

/// One line, for a person, on the late ranks that `asking` waits for and goes on waiting for, since they work.
std::string describe_work(const std::vector<RankState>& states, int asking);

}  // namespace caravan::watch
