// SPDX-License-Identifier: Apache-2.0
#include "kernels/expert_capacity.hpp"

#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {

void keep_within_limit(Execution execution, const std::int32_t* indices, const std::int32_t* sequence,
                       RouterShape shape, std::int64_t sequences, const std::int64_t* limit, std::int64_t* taken,
                       std::int32_t* kept) {
  const std::int64_t tokens = shape.tokens;
  const auto experts = static_cast<int>(shape.experts);
  const auto topk = static_cast<int>(shape.topk);
  detail::for_each(
      execution, "keep_nothing", tokens * topk, KOKKOS_LAMBDA(std::int64_t at) { kept[at] = -1; });
  // Each (sequence, expert) walks over the tokens in order and writes the entries that are its own.
  detail::for_rows(
      execution, "keep_within_limit", sequences, experts, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const std::int64_t most = limit[row];
        detail::for_columns(team, experts, [&](std::int64_t begin, int size) {
          std::int64_t* count = taken + row * experts + begin;
          for (std::int64_t t = 0; t < tokens; ++t) {
            if (sequence[t] != row) continue;
            for (int j = 0; j < topk; ++j) {
              const std::int64_t at = t * topk + j;
              const std::int64_t e = indices[at] - begin;
              if (e >= 0 && e < size && count[e]++ < most) kept[at] = indices[at];
            }
          }
        });
      });
}

}  // namespace caravan::kernels
