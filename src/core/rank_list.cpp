// SPDX-License-Identifier: Apache-2.0
#include "core/rank_list.hpp"

#include "core/text.hpp"

namespace caravan::core {

std::string describe_ranks(const std::vector<int>& ranks) {
  constexpr std::size_t most_runs = 8;  // of successive ranks
  std::vector<std::string> runs;
  std::size_t begin = 0;
  while (begin < ranks.size() && runs.size() < most_runs) {
    std::size_t end = begin + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (end - begin < 3) end = begin + 1;  // "1 and 2", not "1 to 2"
    runs.push_back(std::to_string(ranks[begin]));
    if (end - begin > 1) runs.back() += " to " + std::to_string(ranks[end - 1]);
    begin = end;
  }
  if (begin < ranks.size()) runs.push_back(std::to_string(ranks.size() - begin) + " more");
  return (ranks.size() == 1 ? "rank " : "ranks ") + join(runs);
}

}  // namespace caravan::core
